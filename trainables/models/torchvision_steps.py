"""The steps of torchvision's models by class: their forward pass, in order."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.densenet import _DenseBlock
from torchvision.models.maxvit import MaxVitBlock

from trainables.models.forward_steps import Route, Step, flatten, steps_along


def is_known(model: nn.Module) -> bool:
    """Whether there is a route through models of this class."""
    return isinstance(model, tuple(_ROUTES))


def torchvision_steps(model: nn.Module) -> tuple[Step, ...]:
    """The steps of a known model; see `Family.steps`."""
    route = next(route for kind, route in _ROUTES.items() if isinstance(model, kind))
    return steps_along(model, route(model) if callable(route) else route, open_up=_open_up)


def _pool(x_NCHW: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x_NCHW, (1, 1))


def _mean(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.mean([2, 3])


def _class_token(x_NLD: Tensor) -> Tensor:
    return x_NLD[:, 0]


def _inception_route(model: nn.Module) -> Route:
    """GoogLeNet and Inception v3 without auxiliary heads: their children in order."""
    *children, last = (name for name, _ in model.named_children())
    return (*children, flatten, last)


def _vit_route(model: nn.Module) -> Route:
    assert isinstance(model, models.VisionTransformer)
    embedding = Step(name="conv_proj", module=_Embedding(model))
    encoder = ("encoder.dropout", "encoder.layers", "encoder.ln")
    return (embedding, *encoder, _class_token, "heads")


_ROUTES: dict[type[nn.Module], Route | Callable[[nn.Module], Route]] = {
    models.MobileNetV2: ("features/", _pool, flatten, "classifier"),
    models.MobileNetV3: ("features/", "avgpool", flatten, "classifier"),
    models.EfficientNet: ("features/", "avgpool", flatten, "classifier"),
    models.ResNet: (
        *("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
        *("avgpool", flatten, "fc"),
    ),
    models.RegNet: ("stem", "trunk_output", "avgpool", flatten, "fc"),
    models.ConvNeXt: ("features", "avgpool", "classifier"),
    models.DenseNet: ("features", F.relu, _pool, flatten, "classifier"),
    models.ShuffleNetV2: (
        *("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
        *(_mean, "fc"),
    ),
    models.MNASNet: ("layers", _mean, "classifier"),
    models.SqueezeNet: ("features", "classifier", flatten),
    models.AlexNet: ("features", "avgpool", flatten, "classifier"),
    models.VGG: ("features", "avgpool", flatten, "classifier"),
    models.GoogLeNet: _inception_route,
    models.Inception3: _inception_route,
    models.VisionTransformer: _vit_route,
    models.SwinTransformer: ("features", "norm", "permute", "avgpool", "flatten", "head"),
    models.MaxVit: ("stem", "blocks", "classifier"),
}


def _open_up(path: str, module: nn.Module) -> Route | None:
    if isinstance(module, MaxVitBlock):
        return (f"{path}.layers",)
    if isinstance(module, _DenseBlock):
        return tuple(
            Step(name=f"{path}.{name}", module=_Densely(layer)) for name, layer in module.items()
        )
    return None


class _Densely(nn.Module):
    """A DenseNet layer with the concatenation that its block does."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.cat([x_NCHW, self.layer(x_NCHW)], 1)


class _Embedding(nn.Module):
    """A vision transformer's patches and class token, with their positions."""

    def __init__(self, model: models.VisionTransformer) -> None:
        super().__init__()
        self.conv_proj = model.conv_proj
        self.class_token = model.class_token
        self.pos_embedding = model.encoder.pos_embedding

    def forward(self, images_NCHW: Tensor) -> Tensor:
        patches_NLD = self.conv_proj(images_NCHW).flatten(2).permute(0, 2, 1)
        token_N1D = self.class_token.expand(len(patches_NLD), -1, -1)
        return torch.cat([token_N1D, patches_NLD], 1) + self.pos_embedding
