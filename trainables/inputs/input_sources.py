"""Where batches come from: mapped images, images kept on the device, features of frozen blocks.

All sources use the same positions: first the training images, then the validation images.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.dataset import ImageData
from trainables.data.image_table import Pixels
from trainables.inputs.augmentation import to_batch
from trainables.system.gpus import send

# Batch sizes without gradients. Larger batches of images don't fit into a CPU's caches: MobileNetV2
# at 96 px took 5.7 ms an image in batches of 32, 9.1 ms in batches of 128. A GPU must be kept busy.
_EVALUATION_BATCH = {"cpu": 32, "cuda": 256}
# For vectors, such as pooled features, only a step's fixed cost matters.
_EVALUATION_VECTORS = 4096


class Inputs(Protocol):
    """The inputs of a model, or of the part of it that trains."""

    evaluation_batch: int
    """The batch size that is fastest without gradients."""

    def batches(self, order_N: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
        """Yield the inputs at these positions, in this order, on the model's device."""
        ...


class MappedImages:
    """Images of a memory-mapped table: uint8 batches (N, 3, H, W), channels last."""

    def __init__(self, table: Pixels, rows: NDArray[np.int64], device: torch.device) -> None:
        self._table = table
        self._rows = rows
        self._device = device
        self.evaluation_batch = _EVALUATION_BATCH[device.type]

    def batches(self, order_N: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
        rows = self._rows[order_N.numpy()]
        for start in range(0, len(rows), batch_size):
            pixels_NHWC = self._table.take(rows[start : start + batch_size])
            yield to_batch(pixels_NHWC, self._device)


class StoredInputs:
    """Inputs held as one tensor: in memory, mapped, or on the device.

    stored: (positions, H, W, C) gives batches (N, C, H, W), channels last. Other shapes stay.
    """

    def __init__(self, stored: torch.Tensor, device: torch.device) -> None:
        self._stored = stored
        self._device = device
        of_images = _EVALUATION_BATCH[device.type]
        self.evaluation_batch = _EVALUATION_VECTORS if stored.ndim == 2 else of_images

    def batches(self, order_N: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
        for positions in order_N.to(self._stored.device).split(batch_size):
            batch = self._stored.index_select(0, positions)
            if batch.device != self._device:
                batch = send(batch, self._device)
            yield batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch


def rows_in_order(data: ImageData) -> NDArray[np.int64]:
    """The row of each position: first the training images, then the validation images."""
    return np.concatenate([data.rows("train"), data.rows("validation")])
