"""Turns labelled images into prepared data: decodes, crops, splits and writes them in a stream."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from spaces.errors import UserError
from trainables.data.dataset import ImageData, open_data
from trainables.data.image_files import BadImageError, Square, bombs_are_errors
from trainables.data.image_sources import Sample, Source, folder_source
from trainables.data.splits import check_enough, check_fractions
from trainables.data.writing import DataWriter, check_free, new_folder
from trainables.system.cores import num_cores

TORCHVISION = "torchvision:"
# Decoded images that may wait for their turn, for each thread.
READ_AHEAD = 4

ImageProgress = Callable[[int, int | None], None]
"""Called with the number of images done, and of all images if that is known."""


def prepare(
    source: str,
    out: Path,
    *,
    size: int = 224,
    seed: int = 0,
    skip_bad: bool = False,
    validation: float = 0.15,
    test: float = 0.15,
    progress: ImageProgress | None = None,
) -> ImageData:
    """Make prepared data at `out` from a folder of class folders or from `torchvision:NAME`.

    Every image becomes upright RGB (see image_files.py), and its centre square is resized to
    size x size pixels; smaller images are enlarged. Images are read in sorted order, so equal
    sources and seeds give equal data. `out` appears whole or not at all. Its `notes` say what a
    person should know about the preparation.
    validation, test: fractions of each class. seed: of the split.
    skip_bad: leave unreadable images out and list them in the notes.
    Raises UserError if `out` exists, if the source has no or too few images, and for unreadable
    images, with a list of all of them.
    """
    if not 8 <= size <= 2048:
        raise UserError(f"size {size}: images are stored at 8 to 2048 px")
    check_fractions(validation, test)
    check_free(out)
    images = _open_source(source)
    _check_counts(images)
    with bombs_are_errors(), new_folder(out) as folder, DataWriter(folder, size) as writer:
        bad: list[str] = []
        enlarged = top_label = 0
        for done, (sample, square) in enumerate(_decoded(images.samples(), size), 1):
            if isinstance(square, BadImageError):
                bad.append(f"{sample.location}: {square}")
            elif skip_bad or not bad:  # otherwise the rest is only read to find bad images
                writer.append(square.pixels, sample.label, sample.location)
                enlarged += square.enlarged
                top_label = max(top_label, sample.label)
            if progress:
                progress(done, images.total)
        if bad and not skip_bad:
            raise UserError("\n".join([*bad, _BAD_HINT.format(len(bad), images.total)]))
        writer.finish(
            name=images.name,
            classes=images.classes or _numbered(top_label + 1),
            synthetic=False,
            notes=[
                *images.notes,
                *(f"skipped {line}" for line in bad),
                *(
                    [f"images smaller than {size} px that were enlarged: {enlarged}"]
                    * bool(enlarged)
                ),
            ],
            validation=validation,
            test=test,
            seed=seed,
        )
    return open_data(out)


_BAD_HINT = "{} of {} images can't be read; repair or remove them, or skip them with --skip-bad"


def _open_source(source: str) -> Source:
    if source.startswith(TORCHVISION):
        # Importing torchvision takes seconds, and folders don't need it.
        from trainables.data.torchvision_sets import torchvision_source

        return torchvision_source(source.removeprefix(TORCHVISION))
    return folder_source(_expanded(source))


def _expanded(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError as error:  # ~ of an unknown user
        raise UserError(f"{source}: can't be a path: {error}") from None


def _check_counts(images: Source) -> None:
    if images.classes and len(images.classes) == 1:
        raise UserError(f"{images.name}: has only one class, {images.classes[0]}; two are needed")
    if images.classes and images.counts:
        check_enough(images.counts, images.classes)


def _numbered(num_classes: int) -> tuple[str, ...]:
    digits = len(str(num_classes - 1))
    return tuple(f"{label:0{digits}d}" for label in range(num_classes))


def _decoded(
    samples: Iterator[Sample], size: int
) -> Iterator[tuple[Sample, Square | BadImageError]]:
    """Decode with a thread for each core. Results come in the order of the samples."""
    threads = num_cores()
    waiting: deque[tuple[Sample, Future[Square | BadImageError]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for sample in samples:
            waiting.append((sample, pool.submit(_read, sample, size)))
            if len(waiting) > threads * READ_AHEAD:
                sample, result = waiting.popleft()
                yield sample, result.result()
        for sample, result in waiting:
            yield sample, result.result()


def _read(sample: Sample, size: int) -> Square | BadImageError:
    try:
        return sample.read(size)
    except BadImageError as error:
        return error
