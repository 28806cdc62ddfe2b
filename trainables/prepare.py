"""Turns labelled images into prepared data: decodes, splits and writes them in a stream."""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from spaces.errors import UserError
from trainables.data.dataset import ImageData, open_data, read_about
from trainables.data.decoding import (
    DecodedImages,
    decode,
    keep_decoded,
    kept_images,
    remove_kept,
)
from trainables.data.image_files import (
    BadImageError,
    Facts,
    Fit,
    NeedsMoreError,
    Reading,
    TooManyPixelsError,
    pixel_limit,
)
from trainables.data.image_sources import Sample, Source
from trainables.data.opening import open_source
from trainables.data.splits import SPLITS, SplitName, check_enough, check_fractions, some_of
from trainables.data.writing import (
    DataWriter,
    check_free,
    earlier_images,
    grown_folder,
    new_folder,
)

ImageProgress = Callable[[int, int | None], None]
"""Called with the number of images done, and of all images if that is known."""


def prepare(
    source: str | Source,
    out: Path,
    *,
    size: int = 224,
    fit: Fit = "crop",
    bits: int | None = None,
    max_megapixels: float | None = None,
    skip_bad: bool = False,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    min_images: int = 0,
    near_duplicates: bool = True,
    progress: ImageProgress | None = None,
) -> ImageData:
    """Make prepared data at `out` from a source, or from what `open_source` takes.

    Every image becomes upright RGB of size x size pixels (see image_files.py). Equal images, splits
    and seeds give equal data, in whatever order and form the source has them. `out` appears whole
    or not at all. Its `notes` say what a person should know about the preparation.
    size, fit, bits: see `Reading`. max_megapixels: refuse larger images; None: Pillow's limit.
    skip_bad: leave unreadable images out and list them in the notes.
    validation, test: fractions of each class, where the source itself has no such split. seed: of
    the splits. min_images: leave classes out that have fewer different images.
    near_duplicates: find them, and keep them in one split.
    Raises UserError if `out` exists, if the source has no or too few images, and for unreadable
    images, with a list of all of them. What was decoded is kept then: the next try goes on from it.
    """
    reading = Reading(size=size, fit=fit, bits=bits)
    check_fractions(validation, test)
    check_free(out)
    images = open_source(source) if isinstance(source, str) else source
    fill = _to_fill(images)
    skipped = _check_counts(images, min_images)
    kept = kept_images(out, reading)
    with (
        pixel_limit(max_megapixels),
        new_folder(out) as folder,
        DataWriter(folder, size, fit=fit, bits=bits) as writer,
    ):
        tally = _Tally(reading)
        samples = _free_train(
            (sample for sample in images.samples() if sample.label not in skipped), images, fill
        )
        for sample, square in decode(samples, reading, earlier=kept, hashed=near_duplicates):
            if isinstance(square, BadImageError):
                tally.add_bad(sample, square)
            else:
                tally.add(sample.label, square.facts)
                writer.append(
                    square.pixels,
                    sample.label,
                    sample.location,
                    split=sample.split,
                    group=sample.group,
                    facts=square.facts,
                )
            if progress:
                progress(tally.done, images.total - sum(skipped.values()))
        classes = images.classes or _numbered(tally.top_label + 1)
        if tally.bad and not skip_bad:
            writer.keep()
            raise UserError(
                "\n".join(
                    [*tally.bad_lines(classes), tally.way_out(keep_decoded(folder, out, reading))]
                )
            )
        writer.finish(
            name=images.name,
            classes=classes,
            synthetic=False,
            notes=[
                *images.notes,
                *_notes_on_splits(images, fill),
                *(f"skipped {line}" for line in tally.bad_lines(classes)),
                *tally.notes(),
            ],
            validation=validation,
            test=test,
            seed=seed,
            fill=fill,
            min_images=min_images,
        )
    remove_kept(out)
    return open_data(out)


def append(
    out: Path,
    source: str | Source,
    *,
    max_megapixels: float | None = None,
    skip_bad: bool = False,
    min_images: int = 0,
    progress: ImageProgress | None = None,
) -> ImageData:
    """Add the images of a source to prepared data. They are read as those that are there were.

    Images that the data has already, of the same class, are not added and not decoded. The others
    get splits so that each class comes near to the fractions of the data; copies, groups and
    near-duplicates of images that are there get their split. Those keep theirs. New classes come
    after the others. The data is as it was until all is done. min_images: leave new classes out
    that have fewer different images. Raises UserError as `prepare` does.
    """
    data, about = open_data(out), read_about(out)
    if data.synthetic:
        raise UserError(f"{out}: its images are synthetic; photographs can't be added")
    reading = Reading(size=data.size, fit=data.fit, bits=data.bits)
    images = open_source(source) if isinstance(source, str) else source
    if images.classes is None:
        raise UserError(f"{images.name}: has no names of classes; only named ones can be appended")
    fill = _to_fill(images)
    classes = (*data.classes, *sorted(set(images.classes) - set(data.classes)))
    label_of = [classes.index(name) for name in images.classes]
    earlier = earlier_images(data.path)
    hashed = earlier.rows["hash"].null_count < len(earlier.rows)
    known = DecodedImages(earlier.rows, earlier.pixels)
    with (
        pixel_limit(max_megapixels),
        grown_folder(out) as folder,
        DataWriter(folder, data.size, fit=data.fit, bits=data.bits, earlier=earlier) as writer,
    ):
        tally = _Tally(reading)
        for sample, square in decode(
            _free_train(images.samples(), images, fill), reading, earlier=known, hashed=hashed
        ):
            if isinstance(square, BadImageError):
                tally.add_bad(sample, square)
            elif writer.append(
                square.pixels,
                label_of[sample.label],
                sample.location,
                split=sample.split,
                group=sample.group,
                facts=square.facts,
            ):
                tally.add(sample.label, square.facts)
            else:
                tally.already += 1
            if progress:
                progress(tally.done, images.total)
        if tally.bad and not skip_bad:
            raise UserError("\n".join([*tally.bad_lines(images.classes), tally.way_out(None)]))
        if not len(writer):
            return data
        writer.finish(
            name=data.name,
            classes=classes,
            synthetic=data.synthetic,
            notes=[
                *(about.source_notes or about.notes),
                f"appended {len(writer):,} images of {images.name}"
                + (f"; {tally.already:,} were there already" if tally.already else ""),
                *images.notes,
                *(f"skipped {line}" for line in tally.bad_lines(images.classes)),
                *tally.notes(),
            ],
            validation=about.split["validation"],
            test=about.split["test"],
            seed=int(about.split["seed"]),
            fill=fill,
            min_images=min_images,
        )
    return open_data(out)


class _Tally:
    """Counts what a person should know about the images."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.bad: list[tuple[Sample, BadImageError]] = []
        self.good = self.already = self._enlarged = 0
        self.top_label = -1
        self._cut_off = array("f")
        self._bits = Counter[int]()

    @property
    def done(self) -> int:
        return self.good + self.already + len(self.bad)

    def add(self, label: int, facts: Facts) -> None:
        self.good += 1
        self.top_label = max(self.top_label, label)
        self._enlarged += facts.enlarged
        self._cut_off.append(facts.cut_off)
        if facts.bits > 8:
            self._bits[facts.bits] += 1

    def add_bad(self, sample: Sample, error: BadImageError) -> None:
        self.bad.append((sample, error))
        self.top_label = max(self.top_label, sample.label)

    def bad_lines(self, classes: tuple[str, ...]) -> list[str]:
        """A line for each unreadable image, and one for all that miss the same reader."""
        missing: dict[tuple[str, str], Counter[str]] = {}
        lines = []
        for sample, error in self.bad:
            if isinstance(error, NeedsMoreError):
                suffix = PurePosixPath(sample.path or sample.location).suffix.lower()
                counts = missing.setdefault((suffix, str(error)), Counter())
                counts[classes[sample.label]] += 1
            else:
                lines.append(f"{sample.location}: {error}")
        for (suffix, way_out), counts in missing.items():
            of_class = some_of([f"{name} {count:,}" for name, count in sorted(counts.items())])
            lines.append(f"{counts.total():,} {suffix} files ({of_class}): {way_out}")
        return lines

    def way_out(self, kept: Path | None) -> str:
        """The last line of the error."""
        largest = max(
            (error.megapixels for _, error in self.bad if isinstance(error, TooManyPixelsError)),
            default=0,
        )
        return (
            f"{len(self.bad):,} of {self.done:,} images can't be read; repair or remove them, or"
            " skip them with --skip-bad"
            + (f"; --max-megapixels {largest} reads the large ones" if largest else "")
            + (f"; what was decoded is kept in {kept} for the next try" if kept else "")
        )

    def notes(self) -> list[str]:
        size, lines = self._reading.size, []
        if self._enlarged:
            lines.append(f"images smaller than {size} px that were enlarged: {self._enlarged:,}")
        shares = np.asarray(self._cut_off)
        if shares.max(initial=0.0) >= 0.005:
            lines.append(
                f"cropping to the centre square cut off {np.median(shares):.0%} of the area in the"
                f" median, {shares.max():.0%} at most; --fit pad and --fit stretch cut off nothing"
            )
        if self._bits:
            found = ", ".join(f"{count:,} of {bits}" for bits, count in sorted(self._bits.items()))
            how = "as --bits says" if self._reading.bits else "by its own range; --bits sets one"
            lines.append(f"images of more than 8 bits, each scaled {how}: {found} bits")
        return lines


def _to_fill(images: Source) -> tuple[SplitName, ...]:
    """The splits to draw: all, or those that the source does not have."""
    return tuple(split for split in SPLITS if split not in images.splits)


def _free_train(
    samples: Iterator[Sample], images: Source, fill: Collection[SplitName]
) -> Iterator[Sample]:
    """Let train images of the source be drawn for the splits that it does not have."""
    for sample in samples:
        drawn = fill and sample.split == "train"
        yield replace(sample, split=None) if drawn else sample


def _notes_on_splits(images: Source, fill: Collection[SplitName]) -> list[str]:
    if not images.splits:
        return []
    return [
        f"{images.name} has no {split} images: they are drawn from train"
        for split in fill
        if split != "train"
    ]


def _check_counts(images: Source, min_images: int) -> Mapping[int, int]:
    """Refuse what can't be split before anything is decoded.

    Returns the labels of the classes that are too small to stay, and their numbers of images.
    """
    if images.classes and len(images.classes) == 1:
        raise UserError(f"{images.name}: has only one class, {images.classes[0]}; two are needed")
    if not images.classes or not images.counts:
        return {}
    counts = _different_groups(images) if images.grouped else images.counts
    small = [label for label, count in enumerate(counts) if count < min_images]
    if not images.splits:
        staying = [label for label in range(len(counts)) if label not in small]
        check_enough(
            [counts[label] for label in staying], [images.classes[label] for label in staying]
        )
    return {label: images.counts[label] for label in small}


def _different_groups(images: Source) -> list[int]:
    """For each class, its groups and its images of no group."""
    assert images.classes is not None
    groups: list[set[str]] = [set() for _ in images.classes]
    alone = [0] * len(groups)
    for sample in images.samples():
        if sample.group is None:
            alone[sample.label] += 1
        else:
            groups[sample.label].add(sample.group)
    return [len(found) + count for found, count in zip(groups, alone, strict=True)]


def _numbered(num_classes: int) -> tuple[str, ...]:
    digits = len(str(num_classes - 1))
    return tuple(f"{label:0{digits}d}" for label in range(num_classes))
