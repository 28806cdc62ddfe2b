"""Augmentation of training batches, and the normalisation that a model expects."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torchvision.transforms import v2

from spaces.recipe import Recipe
from trainables.models.family import Normalization
from trainables.system.gpus import send


def to_batch(pixels_NHWC: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Arrange pixels for torch: uint8 (N, 3, H, W), channels last in memory."""
    return send(torch.from_numpy(pixels_NHWC), device).permute(0, 3, 1, 2)


def normalize(images_NCHW: torch.Tensor, normalization: Normalization) -> torch.Tensor:
    """Turn uint8 images into float32 images, normalised per channel."""
    mean, scale = _mean_and_scale(images_NCHW.device, normalization)
    return images_NCHW.float().sub_(mean).mul_(scale)


@functools.cache
def _mean_and_scale(
    device: torch.device, normalization: Normalization
) -> tuple[torch.Tensor, torch.Tensor]:
    """Made once a device, since a GPU waits for every tensor made from Python numbers."""
    with torch.inference_mode(False):
        mean = torch.tensor(normalization.mean, device=device).view(1, 3, 1, 1) * 255
        return mean, 1 / (torch.tensor(normalization.std, device=device).view(1, 3, 1, 1) * 255)


def build_augmentation(recipe: Recipe) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """A function of uint8 (N, 3, H, W) images that draws from torch's random state, or None.

    light: mirrors half of the images, and shifts all by up to an eighth of the size.
    trivialaugment: light, then one random operation of random strength for each image
    (arXiv 2103.10158).
    """
    if recipe.augment == "none":
        return None
    if recipe.augment == "light":
        return _flip_and_shift
    trivial = v2.TrivialAugmentWide()

    def augment(images_NCHW: torch.Tensor) -> torch.Tensor:
        shifted = _flip_and_shift(images_NCHW)
        # One call for a batch would give every image the same operation.
        return torch.stack([trivial(image) for image in shifted]).contiguous(
            memory_format=torch.channels_last
        )

    return augment


def _flip_and_shift(images_NCHW: torch.Tensor) -> torch.Tensor:
    count, _, height, width = images_NCHW.shape
    margin = max(1, height // 8)
    padded = F.pad(images_NCHW.float(), [margin] * 4, mode="reflect").to(torch.uint8)
    across = torch.arange(width)
    columns = torch.where(torch.rand(count, 1) < 0.5, across.flip(0), across)
    columns = columns + torch.randint(0, 2 * margin + 1, (count, 1))
    rows = torch.arange(height) + torch.randint(0, 2 * margin + 1, (count, 1))
    image, rows, columns = (
        send(index, images_NCHW.device) for index in (torch.arange(count), rows, columns)
    )
    # Indexing (N, H, W, C) keeps the channels last in memory.
    picked_NHWC = padded.permute(0, 2, 3, 1)[
        image[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return picked_NHWC.permute(0, 3, 1, 2)
