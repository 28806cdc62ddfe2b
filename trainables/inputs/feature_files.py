"""Features in files: NumPy's .npy format, written in parts, mapped when read.

Features of shape (N, C, H, W) lie as (N, H, W, C), channels last. bf16, which NumPy does not know,
lies as uint16.
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
    """(rows, H, W, C), or (rows, ...) where a row's features have another number of dimensions."""
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """What a file takes."""
        return self.begin_of(self.shape[0])

    @property
    def header(self) -> bytes:
        """What a file begins with."""
        about = {"descr": _DTYPES[self.dtype].str, "fortran_order": False, "shape": self.shape}
        file = io.BytesIO()
        npy.write_array_header_1_0(file, about)
        return file.getvalue()

    def begin_of(self, row: int) -> int:
        """Where in a file a row begins, in bytes."""
        return len(self.header) + row * math.prod(self.shape[1:]) * self.dtype.itemsize


def layout_of(features: torch.Tensor, num_rows: int) -> Layout:
    """How num_rows rows such as those of a batch are stored."""
    return Layout(shape=(num_rows, *_stored(features).shape[1:]), dtype=features.dtype)


def write_features(
    file: BinaryIO, layout: Layout, batches: Iterable[torch.Tensor], *, first_row: int = 0
) -> None:
    """Write the rows of batches into a file, from first_row on; with row 0, what it begins with.

    Raises OSError where the disk is full.
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
    """The same in memory."""
    held = torch.empty(layout.shape, dtype=layout.dtype)
    start = 0
    for batch in batches:
        held[start : start + len(batch)] = _stored(batch)
        start += len(batch)
    return held


def open_features(path: Path) -> torch.Tensor:
    """Map a file of features: nothing is read before rows are taken, and processes share it.

    Raises OSError where it is missing, ValueError where it is damaged.
    """
    # Copy on write, which never happens: torch warns of arrays that can't be written.
    array = npy.open_memmap(path, mode="c")
    features = torch.from_numpy(array)
    return features.view(torch.bfloat16) if array.dtype == np.uint16 else features


def _stored(features: torch.Tensor) -> torch.Tensor:
    return features.permute(0, 2, 3, 1) if features.ndim == 4 else features
