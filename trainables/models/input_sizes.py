"""Which input sizes a model takes. Without torch, which takes seconds to import."""

from spaces.errors import UserError
from spaces.recipe import BASELINE

BASELINE_KERNELS = (5, 3, 3, 3)
# Of torchvision's models, in pixels. Below them, poolings and unpadded convolutions leave nothing.
_SMALLEST_INPUT = {
    "alexnet": 63,
    "convnext": 32,
    "densenet": 29,
    "googlenet": 15,
    "inception_v3": 75,
    "squeezenet1_0": 21,
    "squeezenet1_1": 17,
    "vgg": 32,
}
# Vision transformers cut the image into patches, MaxViT cuts its smallest feature map into 7 x 7.
_INPUT_MULTIPLE = {
    "vit_b_16": 16,
    "vit_l_16": 16,
    "vit_b_32": 32,
    "vit_l_32": 32,
    "vit_h_14": 14,
    "maxvit_t": 224,
}


def check_input_size(model: str, input_size: int) -> None:
    """Raise UserError if a model of ours or of torchvision can't take input_size pixels."""
    if model == BASELINE and input_size < smallest_input():
        raise UserError(
            f"input_size: {input_size} px is too small for the baseline CNN's four poolings;"
            f" use at least {smallest_input()}"
        )
    smallest = next((s for stem, s in _SMALLEST_INPUT.items() if model.startswith(stem)), 1)
    if input_size < smallest:
        raise UserError(
            f"input_size: {input_size} px is too small for {model}; use at least {smallest}"
        )
    multiple = _INPUT_MULTIPLE.get(model, 1)
    if input_size % multiple:
        nearest = max(1, round(input_size / multiple)) * multiple
        raise UserError(
            f"input_size: {model} takes multiples of {multiple} px, not {input_size}; use {nearest}"
        )


def output_size(input_size: int) -> int:
    """Height and width of the last feature map, in pixels: 5 at 112 px, below 1 if none is left."""
    size = input_size
    for kernel in BASELINE_KERNELS:
        size = (size - kernel + 1) // 2
    return size


def smallest_input() -> int:
    """The smallest input that leaves one pixel to the linear layer."""
    size = 1
    for kernel in reversed(BASELINE_KERNELS):
        size = size * 2 + kernel - 1
    return size
