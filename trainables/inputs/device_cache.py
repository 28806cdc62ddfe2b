"""Images and features on a GPU: copied there once where they fit; no step waits for them then."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.dataset import ImageData
from trainables.data.image_table import Pixels
from trainables.inputs.input_sources import Inputs, MappedImages, StoredInputs, rows_in_order
from trainables.system.gpus import room_for_inputs

_CHUNK_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    digest: str
    rows: NDArray[np.int64]
    device: torch.device
    images: torch.Tensor

    def is_of(
        self, data: ImageData, rows: NDArray[np.int64], size: int, device: torch.device
    ) -> bool:
        same = (self.digest, self.images.shape[1], self.device) == (data.digest, size, device)
        return same and np.array_equal(self.rows, rows)


# The images of the last trial stay on the device: the next one of this process most often wants the
# same. One table, since its room is counted for one.
_kept: list[_Kept] = []


def open_images(
    data: ImageData, input_size: int, device: torch.device, *, room_bytes: int | None = None
) -> Inputs:
    """The images for training and validation at a size: on the device where they fit, else mapped.

    room_bytes: what may be taken on the device; 0.4 of its free memory, nothing of a CPU's, where
    mapped images are as near. Raises UserError above the stored size.
    """
    table, rows = data.at_size(input_size), rows_in_order(data)
    if not any(kept.is_of(data, rows, input_size, device) for kept in _kept):
        _kept.clear()
        room = room_for_inputs(device) if room_bytes is None else room_bytes
        if len(rows) * input_size**2 * 3 > room:
            return MappedImages(table, rows, device)
        images_NHWC = _load(table, rows, device)
        _kept.append(_Kept(digest=data.digest, rows=rows, device=device, images=images_NHWC))
    return StoredInputs(_kept[0].images, device)


def keep_near(
    features: torch.Tensor, device: torch.device, *, room_bytes: int | None = None
) -> torch.Tensor:
    """Features on the device where they fit, in place of images; else as they are.

    room_bytes: as of open_images.
    """
    forget_images()
    room = room_for_inputs(device) if room_bytes is None else room_bytes
    return features.to(device) if features.nbytes <= room else features


def forget_images() -> None:
    """Let go of the images that this process keeps on a device."""
    _kept.clear()


def _load(table: Pixels, rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    shape = (len(rows), table.size, table.size, 3)
    images_NHWC = torch.empty(shape, dtype=torch.uint8, device=device)
    for start in range(0, len(rows), _CHUNK_ROWS):
        pixels_NHWC = table.take(rows[start : start + _CHUNK_ROWS])
        images_NHWC[start : start + _CHUNK_ROWS] = torch.from_numpy(pixels_NHWC)
    return images_NHWC
