"""How much training a recipe takes, in multiply-adds and seconds, without training it."""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from spaces.recipe import Recipe
from trainables.costing.effort import Effort, SharedWork
from trainables.costing.macs import LayerMacs, count_macs
from trainables.inputs.frozen_features import has_shared_features
from trainables.models.blocks import freeze
from trainables.models.building import architecture_of, build_on_meta

_MOST_ARCHITECTURES = 256


def share_of_training(recipe: Recipe, num_classes: int) -> float:
    """The cost of training with frozen blocks, as a share of training all blocks: 0 to 1.

    Assumes that the output of frozen blocks is cached if it can be. Raises UserError as
    `recipe_cost` does.
    """
    if recipe.unfrozen is None:
        return 1.0
    trained = trained_share(recipe, num_classes)
    forward = trained if has_shared_features(recipe) else 1.0
    return (forward + 2 * trained) / 3


def trained_share(recipe: Recipe, num_classes: int) -> float:
    """The share of a model's multiply-adds in layers that train: 0 to 1."""
    return _trained(architecture_of(recipe), recipe.unfrozen, num_classes).share


class _Trained(NamedTuple):
    """What of a model trains."""

    gflop: float
    """Of the whole model, for one image."""
    share: float
    """Of the multiply-adds, in layers that train."""
    tensors: int
    """Weights and biases that train."""
    activations: float
    """Billions of values that its layers with multiply-adds put out, for one image."""
    activations_trained: float
    """Those of the layers that train."""


@functools.lru_cache(maxsize=16 * _MOST_ARCHITECTURES)
def _trained(architecture: Recipe, unfrozen: int | None, num_classes: int) -> _Trained:
    model, macs = layer_macs(architecture, num_classes)
    freeze(model, unfrozen)
    trains = {
        name: any(weight.requires_grad for weight in model.get_submodule(name).parameters())
        for name in macs.by_layer
    }
    total = sum(macs.by_layer.values())
    trained = sum(number for name, number in macs.by_layer.items() if trains[name])
    values = {name: math.prod(macs.output_shapes.get(name, (0,))) / 1e9 for name in trains}
    return _Trained(
        gflop=2 * total / 1e9,
        share=1.0 if unfrozen is None else trained / total,
        activations=sum(values.values()),
        activations_trained=sum(number for name, number in values.items() if trains[name]),
        tensors=sum(weight.requires_grad for weight in model.parameters()),
    )


@functools.lru_cache(maxsize=_MOST_ARCHITECTURES)
def layer_macs(architecture: Recipe, num_classes: int) -> tuple[nn.Module, LayerMacs]:
    """A model on the meta device, and its multiply-adds. Results are cached.

    architecture: of `architecture_of`. Counting takes 0.1 to 0.5 s.
    """
    model = build_on_meta(architecture, num_classes)
    return model, count_macs(model, architecture.input_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a device does, roughly: enough to compare recipes with each other."""

    gflop_seconds: float
    activation_seconds: float
    """To write and read a billion of them: narrow models take most of their time so."""
    step_seconds: float
    """Of a step, for each tensor of weights that trains: reading, launching, updating."""
    image_seconds: float


# Fitted to one core of an AMD EPYC, with MobileNetV2 and the baseline CNN of 64 to 224 px
# (benchmarks/photo_curves). That of a GPU is a guess from one H100, where 700 steps a minute of any
# model were the limit.
_CORE = Speed(
    gflop_seconds=1 / 130, activation_seconds=2.2, step_seconds=4.4e-4, image_seconds=3e-6
)
_GPU = Speed(
    gflop_seconds=1 / 10_000, activation_seconds=5e-3, step_seconds=1.5e-4, image_seconds=1e-6
)
# Frozen blocks run once, from the images: decoding, resizing and writing take as long again.
_FROZEN_PASSES = 2.4
# An int8 model is prepared and written once, and its frozen blocks run again, by slower operators.
_INT8_START, _INT8_END, _INT8_FROZEN_PASSES, _INT8_EPOCH = 10.0, 10.0, 5.5, 1.5


def training_effort(
    recipe: Recipe,
    *,
    num_classes: int,
    num_train: int,
    num_validation: int,
    device: str = "cpu",
    threads: int = 1,
) -> Effort:
    """Foretell the seconds that training a recipe takes. Measures nothing.

    num_train, num_validation: images. device: cpu or cuda; threads: of the CPU. Raises UserError as
    `recipe_cost` does.
    """
    speed = _GPU if device == "cuda" else _CORE
    threads = threads if device == "cpu" else 1
    model = _trained(architecture_of(recipe), recipe.unfrozen, num_classes)
    shares = has_shared_features(recipe)
    whole = _pass_seconds(model.gflop, model.activations, speed) / threads
    trained = _pass_seconds(model.gflop * model.share, model.activations_trained, speed) / threads
    forward = trained if shares else whole
    images = num_train + num_validation
    epoch = (
        num_train * (forward + 2 * trained)
        + num_validation * forward
        + math.ceil(num_train / recipe.batch_size) * model.tensors * speed.step_seconds
        + images * speed.image_seconds
    )
    int8_epochs = recipe.epochs - recipe.num_float_epochs
    frozen = (whole - trained) * images if shares else 0.0
    shared: list[SharedWork] = []
    if frozen:
        name = f"{recipe.model} {recipe.weights} {recipe.input_size}"
        shared.append(SharedWork(name=name, seconds=_FROZEN_PASSES * frozen))
        if recipe.qat:
            name = f"int8 {name} {recipe.unfrozen}"
            seconds, after = _INT8_FROZEN_PASSES * frozen, recipe.num_float_epochs
            shared.append(SharedWork(name=name, seconds=seconds, after=after))
    return Effort(
        epoch=epoch * (1 + (_INT8_EPOCH - 1) * int8_epochs / recipe.epochs),
        shared=tuple(shared),
        float_epochs=recipe.num_float_epochs,
        int8_start=_INT8_START if recipe.qat else 0.0,
        int8_end=_INT8_END if recipe.qat else 0.0,
    )


def _pass_seconds(gflop: float, activations: float, speed: Speed) -> float:
    """A forward pass of one image. The backward pass takes twice as long."""
    return gflop * speed.gflop_seconds + activations * speed.activation_seconds
