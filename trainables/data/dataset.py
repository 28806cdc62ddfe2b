"""Prepared image data: one folder, which every process can open at once.

    data.json      what it is: name, size, classes, digest, notes; written last
    rows.arrow     a row for each image, by class and content: label, split, digest of its pixels,
                   source, group, its position in the files of pixels, and what is known of it
    pixels.arrow   the images, in the order in which they were decoded

Each `data append` adds files: rows-2.arrow takes the place of rows.arrow, and pixels-2.arrow holds
the new images.

A trial reads its images with `ImageData.at_size` and `ImageData.rows`.
"""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from spaces.errors import UserError
from spaces.files import PARTIAL, absolute, read_file
from spaces.recipe import describe_mistakes
from spaces.yaml_files import cut
from trainables.data.image_files import Fit, resize_square
from trainables.data.image_table import (
    BATCH_BYTES,
    DAMAGE,
    Pixels,
    PixelTable,
    PixelWriter,
    UInt8Array,
    most_bytes,
    open_arrow,
    open_pixels,
)
from trainables.data.splits import SPLITS, SplitName
from trainables.system.cores import num_cores
from trainables.system.shared_cache import bounded_folder, cache_folder

# 2: rows are ordered by class and content, and have the positions of their images.
FORMAT_VERSION = 2
ABOUT = "data.json"
_MOST_BYTES_ABOUT = 50 * 10**6
_log = logging.getLogger("flopwise")
# Holds resized images, in the cache of a machine.
_FOLDER = "pixels"
_LIMIT_VARIABLE = "FLOPWISE_PIXELS_GB"
_MOST_BYTES = 100 * 10**9
_MOST_OF_THE_DISK = 0.3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageData:
    """Prepared images with their classes and splits. Pickles as its path."""

    path: Path
    name: str
    size: int
    """Height and width of the stored images, in pixels."""
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    """(images,) indices into classes."""
    splits: npt.NDArray[np.uint8]
    """(images,) indices into SPLITS."""
    digest: str
    """32 hexadecimal digits that identify pixels, labels, class names and splits."""
    synthetic: bool
    """Generated, not photographed. Every display of results must say so."""
    notes: tuple[str, ...]
    """What a person should know about the preparation, a line each: images skipped, enlarged."""
    pixels: PixelTable
    grown_from: tuple[str, ...] = ()
    """Digests of this data before images were appended to it, the oldest first."""
    fit: Fit = "crop"
    """How images became squares; see `Reading`."""
    bits: int | None = None
    """Of white, in images of more than 8 bits; see `Reading`."""

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_data, (self.path,)

    def rows(self, split: SplitName) -> npt.NDArray[np.int64]:
        """The rows of a split, in ascending order."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def class_counts(self, split: SplitName) -> list[int]:
        """How many images of a split each class has, in the order of the classes."""
        return np.bincount(self.labels[self.rows(split)], minlength=len(self.classes)).tolist()

    def at_size(self, input_size: int) -> Pixels:
        """All images, in the same rows, at input_size x input_size pixels.

        Each machine resizes them once, with an antialiased bilinear filter, and keeps them in the
        cache folder. If the cache has no room, they are resized each time they are read. Raises
        UserError for a size above the stored one.
        """
        if input_size == self.size:
            return self.pixels
        if input_size > self.size:
            raise UserError(
                f"input_size {input_size}: {self.path} only holds images of {self.size} px;"
                f" prepare it again with --size {input_size}"
            )

        def write(file: BinaryIO, _part: int) -> None:
            with PixelWriter(file, input_size) as writer:
                for image in _resized(self.pixels, input_size):
                    writer.append(image)

        folder = bounded_folder(
            _FOLDER, _LIMIT_VARIABLE, most=_MOST_BYTES, most_of_the_disk=_MOST_OF_THE_DISK
        )
        num_bytes = most_bytes(len(self), input_size)
        reason = ""
        for _ in range(2):
            try:
                path = folder.make_once(
                    self.file_at_size(input_size).name, num_bytes, lambda: write
                )
            except OSError as error:
                reason = error.strerror or str(error)
                break
            try:
                return open_pixels(path)
            except UserError as error:  # damaged, or just removed: try again
                path.unlink(missing_ok=True)
                reason = str(error)
        _log.warning("images at %d px are resized at every use: %s", input_size, reason)
        return ResizedPixels(self.pixels, input_size)

    def file_at_size(self, input_size: int) -> Path:
        """The file where this machine keeps images that it resized to this size."""
        return cache_folder() / _FOLDER / f"{self.digest}-{input_size}px.arrow"


class ResizedPixels:
    """The rows of a table at another size, resized each time they are read."""

    def __init__(self, pixels: Pixels, size: int) -> None:
        self.size = size
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def take(self, rows: npt.ArrayLike) -> UInt8Array:
        images = np.empty((np.size(rows), self.size, self.size, 3), dtype=np.uint8)
        for resized, image in zip(images, self._pixels.take(rows), strict=True):
            resized[:] = resize_square(image, size=self.size)
        return images


def open_data(path: Path) -> ImageData:
    """Open prepared data. Its pixels stay on disk until they are used.

    Raises UserError if path is not prepared data, is damaged, or is newer than this flopwise.
    """
    path = absolute(path)
    about = read_about(path)
    rows, files = data_files(about.generation)
    try:
        labels, splits, positions = _read_rows(path / rows, num_classes=len(about.classes))
        pixels = open_pixels(*(path / name for name in files), positions=positions)
    except UserError as error:
        if read_about(path).digest != about.digest:  # it has just grown
            return open_data(path)
        raise UserError(f"{path}: damaged; prepare it again ({error})") from None
    found = len(labels), pixels.num_stored, pixels.size
    if found != (about.images, about.stored or about.images, about.size):
        raise UserError(f"{path}: damaged; prepare it again (its files do not match)")
    return ImageData(
        path=path,
        name=about.name,
        size=about.size,
        classes=about.classes,
        labels=labels,
        splits=splits,
        digest=about.digest,
        synthetic=about.synthetic,
        notes=about.notes,
        pixels=pixels,
        grown_from=about.grown_from,
        fit=about.fit,
        bits=about.bits,
    )


def data_files(generation: int) -> tuple[str, tuple[str, ...]]:
    """The names of the files of rows and of pixels. generation: 1, and 1 more for each append."""
    numbers = ["", *(f"-{number}" for number in range(2, generation + 1))]
    return f"rows{numbers[-1]}.arrow", tuple(f"pixels{number}.arrow" for number in numbers)


def read_rows(path: Path) -> pa.Table:
    """The rows of prepared data: see the top of this module. Raises UserError."""
    rows, _ = data_files(read_about(path).generation)
    try:
        return open_arrow(path / rows).read_all()
    except DAMAGE as error:
        raise UserError(f"{path / rows}: damaged: {cut(str(error), 200)}") from None


def read_sources(path: Path) -> list[str]:
    """The source of each image of prepared data, by row, such as cat/1.jpg."""
    return read_rows(path)["source"].to_pylist()


def near_duplicates_of(path: Path) -> list[list[int]]:
    """The rows of each cluster of near-duplicates, the largest cluster first."""
    table = read_rows(path)
    if "cluster" not in table.column_names:  # of an older flopwise
        return []
    found: dict[int, list[int]] = {}
    for row, cluster in enumerate(table["cluster"].to_pylist()):
        if cluster is not None:
            found.setdefault(cluster, []).append(row)
    return sorted(found.values(), key=lambda rows: (-len(rows), rows))


_Digest = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


@validated(frozen=True, slots=True, kw_only=True, config=ConfigDict(strict=True))
class About:
    """What data.json must hold; it may hold more."""

    name: str
    images: int
    size: Annotated[int, Field(ge=8, le=2048)]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    digest: _Digest
    synthetic: bool
    notes: tuple[str, ...]
    grown_from: tuple[_Digest, ...] = ()
    fit: Fit = "crop"
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    generation: Annotated[int, Field(ge=1, le=10**4)] = 1
    """1, and 1 more for each time that images were appended."""
    stored: int | None = None
    """Images in the files of pixels, with those of classes that were left out; None: no others."""
    source_notes: tuple[str, ...] = ()
    """Those of the notes that are about the sources."""
    split: dict[str, float] = Field(default_factory=dict)
    """validation, test and seed."""


def read_about(path: Path) -> About:
    """Read and check data.json. Raises UserError as `open_data` does."""
    if not path.exists():
        raise UserError(f"{path}: there is no such folder")
    if not path.is_dir():
        raise UserError(f"{path}: is a file; prepared data is a folder")
    if path.name.startswith(".") and PARTIAL in path.name:
        raise UserError(f"{path}: left by a prepare that was killed; delete it and prepare again")
    if not (path / ABOUT).exists():
        raise UserError(
            f"{path}: is not prepared data; if it holds a folder of images for each class, run"
            f" flopwise data prepare {path} OUT"
        )
    written = read_file(path / ABOUT, most_bytes=_MOST_BYTES_ABOUT)
    try:
        about = json.loads(written)
        version = int(about["format_version"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        what = cut(str(error))
        raise UserError(f"{path / ABOUT}: damaged; prepare the data again ({what})") from None
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path}: was prepared by a newer flopwise (format {version}, but this one reads up to"
            f" {FORMAT_VERSION}); update flopwise or prepare it again"
        )
    try:
        return TypeAdapter(About).validate_json(json.dumps(about))
    except ValidationError as error:
        first = describe_mistakes(error)[0]
        raise UserError(f"{path / ABOUT}: damaged; prepare the data again ({first})") from None


def _read_rows(
    path: Path, *, num_classes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64] | None]:
    """Labels, splits and positions of rows; no positions in data of format 1."""
    try:
        table = open_arrow(path).read_all()
        table.validate(full=True)
        labels = table["label"].cast(pa.int64()).to_numpy()
        splits = table["split"].cast(pa.uint8()).to_numpy()
        nulls = table["label"].null_count + table["split"].null_count
        positions = None
        if "position" in table.column_names:
            positions = table["position"].cast(pa.int64()).to_numpy()
    except DAMAGE as error:
        raise UserError(f"{path}: {' '.join(cut(str(error), 200).split())}") from None
    if nulls:
        raise UserError(f"{path}: {nulls} labels or splits are missing")
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise UserError(f"{path}: a label names no class")
    if len(splits) and splits.max() >= len(SPLITS):
        raise UserError(f"{path}: a row is in no split")
    if positions is not None and len(np.unique(positions)) < len(labels):
        raise UserError(f"{path}: two rows have the same image")
    labels.flags.writeable = splits.flags.writeable = False
    return labels, splits, positions


def _resized(pixels: Pixels, size: int) -> Iterator[UInt8Array]:
    chunk = max(1, BATCH_BYTES // pixels.size**2 // 3)

    resize = partial(resize_square, size=size)
    with ThreadPoolExecutor(num_cores()) as pool:
        for start in range(0, len(pixels), chunk):
            rows = np.arange(start, min(start + chunk, len(pixels)))
            yield from pool.map(resize, pixels.take(rows))
