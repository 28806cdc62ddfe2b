"""Turns labelled images into prepared data: decodes, splits and writes them in a stream."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from spaces.errors import UserError
from trainables.data.dataset import ImageData, open_data, read_about
from trainables.data.decoding import (
    DecodedImages,
    decode,
    keep_decoded,
    kept_images,
    remove_kept,
)
from trainables.data.image_files import BadImageError, Fit, Reading, Square, pixel_limit
from trainables.data.image_sources import Sample, Source
from trainables.data.opening import open_source
from trainables.data.splits import SPLITS, SplitName, check_enough, check_fractions
from trainables.data.tally import Tally
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
        tally = Tally(reading)
        samples = _free_train(
            (sample for sample in images.samples() if sample.label not in skipped), images, fill
        )
        decoded = decode(samples, reading, earlier=kept, hashed=near_duplicates)
        total = images.total - sum(skipped.values())
        _write(decoded, writer, tally, progress, total)
        classes = images.classes or _numbered(tally.top_label + 1)
        with _kept_on_error(writer, folder, out, reading):
            _check_readable(tally, classes, skip_bad)
            writer.finish(
                name=images.name,
                classes=classes,
                synthetic=False,
                notes=_notes(images, classes, fill, tally),
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
    known = [DecodedImages(earlier.rows, earlier.pixels), *kept_images(out, reading)]
    with (
        pixel_limit(max_megapixels),
        grown_folder(out) as folder,
        DataWriter(folder, data.size, fit=data.fit, bits=data.bits, earlier=earlier) as writer,
    ):
        tally = Tally(reading)
        samples = _free_train(images.samples(), images, fill)
        decoded = decode(samples, reading, earlier=known, hashed=hashed)
        _write(decoded, writer, tally, progress, images.total, label_of)
        with _kept_on_error(writer, folder, out, reading):
            _check_readable(tally, images.classes, skip_bad)
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
                    *_notes(images, images.classes, fill, tally),
                ],
                validation=about.split["validation"],
                test=about.split["test"],
                seed=int(about.split["seed"]),
                fill=fill,
                min_images=min_images,
            )
    remove_kept(out)
    return open_data(out)


def _write(
    decoded: Iterator[tuple[Sample, Square | BadImageError]],
    writer: DataWriter,
    tally: Tally,
    progress: ImageProgress | None,
    total: int,
    label_of: Sequence[int] | None = None,
) -> None:
    """Write images that could be read, and count all of them.

    label_of: the labels to write, by those of the samples; None: the same.
    """
    for sample, square in decoded:
        if isinstance(square, BadImageError):
            tally.add_bad(sample, square)
        elif writer.append(
            square.pixels,
            sample.label if label_of is None else label_of[sample.label],
            sample.location,
            split=sample.split,
            group=sample.group,
            facts=square.facts,
        ):
            tally.add(sample.label, square.facts)
        else:
            tally.already += 1
        if progress:
            progress(tally.done, total)


def _check_readable(tally: Tally, classes: tuple[str, ...], skip_bad: bool) -> None:
    if tally.bad and not skip_bad:
        raise UserError("\n".join([*tally.bad_lines(classes), tally.way_out()]))


def _notes(
    images: Source, classes: tuple[str, ...], fill: Collection[SplitName], tally: Tally
) -> list[str]:
    """What a person should know of the images of a source."""
    drawn = [split for split in fill if split != "train"] if images.splits else []
    return [
        *images.notes,
        *(f"{images.name} has no {split} images: they are drawn from train" for split in drawn),
        *(f"skipped {line}" for line in tally.bad_lines(classes)),
        *tally.notes(),
    ]


@contextmanager
def _kept_on_error(writer: DataWriter, folder: Path, out: Path, reading: Reading) -> Iterator[None]:
    """Keep what was decoded if the block ends with a UserError, which says where."""
    try:
        yield
    except UserError as error:
        writer.keep()
        kept = keep_decoded(folder, out, reading)
        raise UserError(f"{error}; what was decoded is kept in {kept} for the next try") from None


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
