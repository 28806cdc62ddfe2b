"""The baseline CNN: four convolutions and a linear layer, the case that flopwise grew from."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces.recipe import BASELINE, Recipe
from trainables.models.family import Family
from trainables.models.forward_steps import Step, flatten, steps_along
from trainables.models.input_sizes import BASELINE_KERNELS, check_input_size, output_size

_CHANNELS = (64, 128, 128, 128)


class ConvBlock(nn.Module):
    """Convolution without padding, optional batch norm, ReLU, 2 x 2 max-pooling.

    With residual, the input is added before the ReLU, as in ResNet (arXiv:1512.03385). Since the
    convolution has no padding, the input is first cropped to the output's size. If the number of
    channels changes, nothing is added, so residual connections add no parameters.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, batch_norm: bool, residual: bool
    ) -> None:
        super().__init__()
        # Keep the bias with batch norm: the parameter counts of the seed report include it.
        self.conv = nn.Conv2d(in_channels, out_channels, kernel)
        self.norm = nn.BatchNorm2d(out_channels) if batch_norm else nn.Identity()
        self.crop = kernel // 2 if residual and in_channels == out_channels else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW = self.norm(self.conv(x_NCHW))
        if self.crop is not None:
            y_NCHW = y_NCHW + x_NCHW[:, :, self.crop : -self.crop, self.crop : -self.crop]
        return F.max_pool2d(F.relu(y_NCHW), 2)


class BaselineCNN(nn.Module):
    """Conv 3->64 k5, 64->128 k3, 128->128 k3, 128->128 k3, a linear layer, log-softmax.

    Takes (N, 3, input_size, input_size), returns log-probabilities (N, num_classes). Cross-entropy
    can use them as logits, since log-softmax does not change log-probabilities. width multiplies
    the channels, rounded, at least 1. residual adds connections around the two convolutions that
    keep their number of channels (see ConvBlock).

    At 112 px and 151 classes: 857,239 parameters, 858,135 with batch norm.
    Raises UserError if the input is too small for four poolings.
    """

    def __init__(
        self,
        num_classes: int,
        input_size: int,
        width: float = 1.0,
        batch_norm: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        check_input_size(BASELINE, input_size)
        channels = [3, *(max(1, round(channel * width)) for channel in _CHANNELS)]
        self.blocks = nn.Sequential(
            *(
                ConvBlock(before, after, kernel, batch_norm=batch_norm, residual=residual)
                for before, after, kernel in zip(
                    channels, channels[1:], BASELINE_KERNELS, strict=False
                )
            )
        )
        self.head = nn.Linear(channels[-1] * output_size(input_size) ** 2, num_classes)
        self.log_softmax = nn.LogSoftmax(dim=1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features_ND = torch.flatten(self.blocks(images_NCHW), 1)
        return self.log_softmax(self.head(features_ND))


def _build(recipe: Recipe, num_classes: int) -> BaselineCNN:
    return BaselineCNN(
        num_classes, recipe.input_size, recipe.width, recipe.batch_norm, recipe.residual
    )


def _steps(model: nn.Module) -> tuple[Step, ...]:
    return steps_along(model, ("blocks", flatten, "head", "log_softmax"))


BASELINE_FAMILY = Family(
    has_name=lambda name: name == BASELINE,
    names=lambda: (BASELINE,),
    check_input_size=check_input_size,
    build=_build,
    built=lambda model: isinstance(model, BaselineCNN),
    steps=_steps,
)
