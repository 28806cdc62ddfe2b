"""A family of models from outside: what adding one takes, in full. Tests put it into the table."""

import torch
from torch import Tensor, nn

from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.models.family import Family, Normalization
from trainables.models.forward_steps import Step, steps_along

CHANNELS = {"toy_narrow": 4, "toy_wide": 8}
NORMALIZATION = Normalization(mean=(0.3, 0.5, 0.6), std=(0.5, 0.25, 1.0))


class ToyNet(nn.Module):
    """Two convolutions, each halving the image, with batch norm and ReLU; mean, linear layer."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(conv_block(3, channels), conv_block(channels, 2 * channels))
        self.head = nn.Linear(2 * channels, num_classes)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.head(mean_of_pixels(self.blocks(images_NCHW)))


def conv_block(before: int, after: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def mean_of_pixels(x_NCHW: Tensor) -> Tensor:
    return torch.mean(x_NCHW, dim=(2, 3))


def check_input_size(name: str, input_size: int) -> None:
    if input_size % 4:
        nearest = round(input_size / 4) * 4
        raise UserError(f"input_size: {name} halves {input_size} px twice; use {nearest}")


def build(recipe: Recipe, num_classes: int) -> ToyNet:
    return ToyNet(CHANNELS[recipe.model], num_classes)


def steps(model: nn.Module) -> tuple[Step, ...]:
    return steps_along(model, ("blocks", mean_of_pixels, "head"))


TOY = Family(
    has_name=CHANNELS.__contains__,
    names=lambda: tuple(CHANNELS),
    check_input_size=check_input_size,
    build=build,
    built=lambda model: isinstance(model, ToyNet),
    steps=steps,
    normalization=lambda _recipe: NORMALIZATION,
)
