"""Images and features on a GPU. If they fit, they are copied once, and no step waits for them."""

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


# The images of the last trial stay on the device, since this process's next trial usually needs the
# same. There is only one table, since memory is reserved for one.
_kept: list[_Kept] = []


def open_images(
    data: ImageData, input_size: int, device: torch.device, *, room_bytes: int | None = None
) -> Inputs:
    """The images for training and validation at a size: on the device if they fit, else mapped.

    room_bytes: memory that they may take on the device; by default 0.4 of its free memory, and 0 on
    a CPU, where mapped images are as fast. Raises UserError above the stored size.
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
    """Replace images on the device by features if they fit; otherwise return them unchanged.

    room_bytes: as in open_images.
    """
    forget_images()
    room = room_for_inputs(device) if room_bytes is None else room_bytes
    return features.to(device) if features.nbytes <= room else features


def forget_images() -> None:
    """Free the images that this process keeps on a device."""
    _kept.clear()


def _load(table: Pixels, rows: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    shape = (len(rows), table.size, table.size, 3)
    images_NHWC = torch.empty(shape, dtype=torch.uint8, device=device)
    for start in range(0, len(rows), _CHUNK_ROWS):
        pixels_NHWC = table.take(rows[start : start + _CHUNK_ROWS])
        images_NHWC[start : start + _CHUNK_ROWS] = torch.from_numpy(pixels_NHWC)
    return images_NHWC
