"""A model's forward pass as a flat sequence of modules, of which blocks and cuts are made."""

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.densenet import _DenseBlock
from torchvision.models.maxvit import MaxVitBlock

from spaces.errors import UserError
from trainables.models.baseline import BaselineCNN


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One module of the sequence; name is its path in the model, empty where it has none."""

    name: str
    module: nn.Module


def forward_steps(model: nn.Module) -> tuple[Step, ...]:
    """Steps of which each takes the last one's output: run in order, they are the forward pass.

    The steps share the model's own modules and parameters. What a forward pass does between them
    (flattening, mean) are steps without parameters. Raises UserError for an unknown family.
    """
    return tuple(_expand_all(model, _route(model)))


def find_head(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Path and module of the layer whose outputs are the classes: the last linear one or conv."""
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    assert layers, "a classifier has a layer"
    return layers[-1]


# What a route is made of: the path of a module; a path with "/", whose children are the steps and
# are taken as they are; a function of a tensor; a module made for the purpose, and its path.
_Stop = str | Callable[[Tensor], Tensor] | Step


def _route(model: nn.Module) -> tuple[_Stop, ...]:
    for family, route in _ROUTES.items():
        if isinstance(model, family):
            return route(model) if callable(route) else route
    raise UserError(
        f"unfrozen: the blocks of {type(model).__name__} are not known; leave unfrozen out,"
        " which trains the whole model"
    )


def _flatten(x: Tensor) -> Tensor:
    return torch.flatten(x, 1)


def _pool(x_NCHW: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x_NCHW, (1, 1))


def _mean(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.mean([2, 3])


def _class_token(x_NLD: Tensor) -> Tensor:
    return x_NLD[:, 0]


def _inception_route(model: nn.Module) -> tuple[_Stop, ...]:
    """GoogLeNet and Inception v3 without auxiliary heads: their children in order."""
    assert isinstance(model, models.GoogLeNet | models.Inception3)
    *children, last = (name for name, _ in model.named_children())
    return (model._transform_input, *children, _flatten, last)


def _vit_route(model: nn.Module) -> tuple[_Stop, ...]:
    assert isinstance(model, models.VisionTransformer)
    embedding = Step(name="conv_proj", module=_Embedding(model))
    encoder = ("encoder.dropout", "encoder.layers", "encoder.ln")
    return (embedding, *encoder, _class_token, "heads")


_ROUTES: dict[type[nn.Module], tuple[_Stop, ...] | Callable[[nn.Module], tuple[_Stop, ...]]] = {
    BaselineCNN: ("blocks", _flatten, "head", "log_softmax"),
    models.MobileNetV2: ("features/", _pool, _flatten, "classifier"),
    models.MobileNetV3: ("features/", "avgpool", _flatten, "classifier"),
    models.EfficientNet: ("features/", "avgpool", _flatten, "classifier"),
    models.ResNet: (
        *("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
        *("avgpool", _flatten, "fc"),
    ),
    models.RegNet: ("stem", "trunk_output", "avgpool", _flatten, "fc"),
    models.ConvNeXt: ("features", "avgpool", "classifier"),
    models.DenseNet: ("features", F.relu, _pool, _flatten, "classifier"),
    models.ShuffleNetV2: (
        *("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
        *(_mean, "fc"),
    ),
    models.MNASNet: ("layers", _mean, "classifier"),
    models.SqueezeNet: ("features", "classifier", _flatten),
    models.AlexNet: ("features", "avgpool", _flatten, "classifier"),
    models.VGG: ("features", "avgpool", _flatten, "classifier"),
    models.GoogLeNet: _inception_route,
    models.Inception3: _inception_route,
    models.VisionTransformer: _vit_route,
    models.SwinTransformer: ("features", "norm", "permute", "avgpool", "flatten", "head"),
    models.MaxVit: ("stem", "blocks", "classifier"),
}


def _expand_all(model: nn.Module, route: tuple[_Stop, ...]) -> Iterator[Step]:
    _, head = find_head(model)
    for stop in route:
        if isinstance(stop, Step):
            yield stop
        elif not isinstance(stop, str):
            yield Step(name="", module=_Function(stop))
        elif stop.endswith("/"):
            path = stop.removesuffix("/")
            for name, child in model.get_submodule(path).named_children():
                yield Step(name=f"{path}.{name}", module=child)
        else:
            yield from _expand(stop, model.get_submodule(stop), head)


def _expand(path: str, module: nn.Module, head: nn.Module) -> Iterator[Step]:
    """The steps inside a container; anything else is one step."""
    if isinstance(module, MaxVitBlock):
        path, module = f"{path}.layers", module.layers
    if isinstance(module, _DenseBlock):
        for name, layer in module.items():
            yield Step(name=f"{path}.{name}", module=_Densely(layer))
    elif isinstance(module, nn.Sequential | nn.ModuleList) and not _is_unit(module, head):
        for name, child in module.named_children():
            yield from _expand(f"{path}.{name}", child, head)
    else:
        yield Step(name=path, module=module)


def _is_unit(module: nn.Module, head: nn.Module) -> bool:
    """One convolution or linear layer with its norm and activation, which belong together."""
    children = list(module.children())
    weighted = [child for child in children if isinstance(child, nn.Linear | nn.Conv2d)]
    leaves = not any(next(child.children(), None) for child in children)
    return leaves and len(weighted) == 1 and head not in children


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class _Densely(nn.Module):
    """A DenseNet layer with the concatenation that its block does for it."""

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
