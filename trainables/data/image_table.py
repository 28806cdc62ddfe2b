"""Files of square images of one size, which many processes read at once without loading them.

Each is an uncompressed Arrow IPC file with one column, `pixels`, of fixed shape tensors, so any
Arrow reader can open it. All processes of a machine share the memory-mapped pages.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spaces.errors import UserError
from spaces.files import check_file

UInt8Array = npt.NDArray[np.uint8]

DAMAGE = (pa.ArrowException, OSError, LookupError, TypeError, ValueError)
"""What pyarrow raises for a damaged file."""
# The writer holds one batch in memory. An image that is larger makes a batch of its own.
BATCH_BYTES = 8 * 2**20


# Bytes besides the pixels, for each batch and for the file.
_BATCH_OVERHEAD_BYTES, _FILE_OVERHEAD_BYTES = 1024, 8192


class Pixels(Protocol):
    """Rows of (size, size, 3) uint8 RGB images."""

    size: int

    def __len__(self) -> int: ...

    def take(self, rows: npt.ArrayLike) -> UInt8Array:
        """Copy the images of these rows, in this order, as (k, size, size, 3).

        rows: (k,) integers from 0 to len - 1; a row may come twice.
        """
        ...


class PixelTable:
    """Read-only rows of (size, size, 3) uint8 RGB images. Made by `open_pixels`."""

    def __init__(
        self,
        path: Path,
        batches: list[UInt8Array],
        size: int,
        *,
        more: Sequence[Path] = (),
        positions: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """path, more: the files. positions: (rows,) where each row's image is in them."""
        self.path = path
        self.size = size
        self._more = tuple(more)
        self._batches = batches
        self._positions = positions
        self._starts = np.cumsum([0, *(len(batch) for batch in batches)])

    def __len__(self) -> int:
        return self.num_stored if self._positions is None else len(self._positions)

    @property
    def num_stored(self) -> int:
        """Images in the files, whether rows name them or not."""
        return int(self._starts[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self.path, self._more, self._positions)

    def take(self, rows: npt.ArrayLike) -> UInt8Array:
        """Copy the images of these rows, in this order.

        rows: (k,) integers from 0 to len - 1; a row may come twice.
        Returns (k, size, size, 3). Raises IndexError on a row that is not there.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"{self.path} has rows 0 to {len(self) - 1}")
        images = np.empty((len(rows), self.size, self.size, 3), dtype=np.uint8)
        if self._positions is not None:
            rows = self._positions[rows]
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        within = rows - self._starts[numbers]
        for k, (number, row) in enumerate(zip(numbers.tolist(), within.tolist(), strict=True)):
            images[k] = self._batches[number][row]
        return images


def open_pixels(
    path: Path, *more: Path, positions: npt.NDArray[np.int64] | None = None
) -> PixelTable:
    """Map files of pixels into memory. Nothing is read before rows are taken.

    more: files of images of the same size, which come after those of path. positions: (rows,)
    where each row's image is in the files; None: in the same order. Raises UserError if a file is
    missing, cut short or holds something else, or if it has no image at a position.
    """
    batches, size = _batches_of(path)
    for other in more:
        found, other_size = _batches_of(other)
        if other_size != size:
            raise UserError(f"{other}: its images are of {other_size} px, not of {size}")
        batches += found
    count = sum(len(batch) for batch in batches)
    if positions is not None and len(positions):
        if not 0 <= positions.min() <= positions.max() < count:
            raise UserError(f"{path}: has {count} images, and none at a row's position")
        positions.flags.writeable = False
    return PixelTable(path, batches, size, more=more, positions=positions)


def _open_again(
    path: Path, more: Sequence[Path], positions: npt.NDArray[np.int64] | None
) -> PixelTable:
    return open_pixels(path, *more, positions=positions)


def _batches_of(path: Path) -> tuple[list[UInt8Array], int]:
    """The mapped batches of a file, and the size of its images."""
    try:
        reader = open_arrow(path)
        kind = reader.schema.field("pixels").type
        shape = tuple(kind.shape)
        if kind.value_type != pa.uint8() or len(shape) != 3 or shape != (shape[0], shape[0], 3):
            raise UserError(f"{path}: its images are {kind}, not squares of RGB pixels")
        batches = []
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            batch.validate()
            batches.append(batch.column(0).to_numpy_ndarray())
    except (*DAMAGE, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged, or not a file of pixels: {reason}") from None
    return batches, shape[0]


def open_arrow(path: Path) -> pa.RecordBatchFileReader:
    """Map an Arrow file into memory. Raises UserError if it is missing, or is none."""
    check_file(path)
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged, or not an Arrow file: {reason}") from None


class PixelWriter:
    """Streams images into an open file. Memory stays below one batch and one image.

    Once the `with` block has ended without an error, the file is on disk and can be read.
    """

    def __init__(self, file: BinaryIO, size: int, *, batch_bytes: int = BATCH_BYTES) -> None:
        self._type = pa.fixed_shape_tensor(pa.uint8(), (size, size, 3))
        self._schema = pa.schema([pa.field("pixels", self._type, nullable=False)])
        rows = _rows_of_a_batch(size, batch_bytes)
        self._batch = np.empty((rows, size, size, 3), dtype=np.uint8)
        self._filled = 0
        self._file = file
        self._sink = pa.ipc.new_file(self._file, self._schema)

    def append(self, image: UInt8Array) -> None:
        """Add one (size, size, 3) image."""
        assert image.shape == self._batch.shape[1:], image.shape
        assert image.dtype == np.uint8, image.dtype
        self._batch[self._filled] = image
        self._filled += 1
        if self._filled == len(self._batch):
            self._flush()

    def _flush(self) -> None:
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(self._batch[: self._filled])
        column = pa.ExtensionArray.from_storage(self._type, tensors.storage)
        self._sink.write_batch(pa.record_batch([column], schema=self._schema))
        self._filled = 0

    def finish(self) -> None:
        """Write the last batch and the footer, and wait for the disk."""
        if self._filled:
            self._flush()
        self._sink.close()
        self._file.truncate()  # readers look for the footer at the end
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()


def most_bytes(num_images: int, size: int) -> int:
    """An upper bound of the bytes of a file of this many images."""
    batches = math.ceil(num_images / _rows_of_a_batch(size, BATCH_BYTES))
    return num_images * size**2 * 3 + batches * _BATCH_OVERHEAD_BYTES + _FILE_OVERHEAD_BYTES


def _rows_of_a_batch(size: int, batch_bytes: int) -> int:
    return max(1, batch_bytes // (size * size * 3))
