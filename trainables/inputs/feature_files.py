"""Features in files: NumPy's .npy format, written in parts, mapped when read.

Features of shape (N, C, H, W) are stored as (N, H, W, C), channels last. bf16, which NumPy does not
know, is stored as uint16.
"""

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy

_DTYPES = {torch.float32: np.dtype("<f4"), torch.bfloat16: np.dtype("<u2")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the features of one cut are stored."""

    shape: tuple[int, ...]
    """(rows, H, W, C), or (rows, ...) if a row's features have another number of dimensions."""
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """The size of a file."""
        return self.begin_of(self.shape[0])

    @property
    def header(self) -> bytes:
        """The first bytes of a file."""
        about = {"descr": _DTYPES[self.dtype].str, "fortran_order": False, "shape": self.shape}
        file = io.BytesIO()
        npy.write_array_header_1_0(file, about)
        return file.getvalue()

    def begin_of(self, row: int) -> int:
        """The offset of a row in a file, in bytes."""
        return len(self.header) + row * math.prod(self.shape[1:]) * self.dtype.itemsize


def layout_of(features: torch.Tensor, num_rows: int) -> Layout:
    """The layout of num_rows rows of the shape and type of a batch."""
    return Layout(shape=(num_rows, *_stored(features).shape[1:]), dtype=features.dtype)


def write_features(
    file: BinaryIO, layout: Layout, batches: Iterable[torch.Tensor], *, first_row: int = 0
) -> None:
    """Write the rows of batches into a file, from first_row on. With row 0, writes the header too.

    Raises OSError if the disk is full.
    """
    if first_row == 0:
        file.seek(0)
        file.write(layout.header)
    file.seek(layout.begin_of(first_row))
    for batch in batches:
        assert batch.dtype == layout.dtype, batch.dtype
        stored = _stored(batch).contiguous().cpu()
        if stored.dtype == torch.bfloat16:
            stored = stored.view(torch.uint16)
        file.write(stored.numpy().data)


def hold_features(layout: Layout, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Collect the rows of batches in memory, in the same layout."""
    held = torch.empty(layout.shape, dtype=layout.dtype)
    start = 0
    for batch in batches:
        held[start : start + len(batch)] = _stored(batch)
        start += len(batch)
    return held


def open_features(path: Path) -> torch.Tensor:
    """Map a file of features. Nothing is read before rows are taken, and processes share it.

    Raises OSError if it is missing, ValueError if it is damaged.
    """
    # Copy on write, though nothing writes: torch warns about arrays that are read-only.
    array = npy.open_memmap(path, mode="c")
    features = torch.from_numpy(array)
    return features.view(torch.bfloat16) if array.dtype == np.uint16 else features


def _stored(features: torch.Tensor) -> torch.Tensor:
    return features.permute(0, 2, 3, 1) if features.ndim == 4 else features
