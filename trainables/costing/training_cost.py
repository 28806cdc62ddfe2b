"""How much training a recipe takes, in multiply-adds and seconds, without training it."""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from spaces.recipe import Recipe
from trainables.costing.effort import Effort
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


@functools.lru_cache(maxsize=16 * _MOST_ARCHITECTURES)
def _trained(architecture: Recipe, unfrozen: int | None, num_classes: int) -> _Trained:
    model, macs = layer_macs(architecture, num_classes)
    freeze(model, unfrozen)
    trained = sum(
        number
        for name, number in macs.by_layer.items()
        if any(weight.requires_grad for weight in model.get_submodule(name).parameters())
    )
    total = sum(macs.by_layer.values())
    return _Trained(
        gflop=2 * total / 1e9,
        share=1.0 if unfrozen is None else trained / total,
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

    gflop_a_second: float
    step_seconds: float
    """Of a step, for each tensor of weights that trains: reading, launching, updating."""
    image_seconds: float


# Measured on one core of an AMD EPYC with MobileNetV2 and the baseline CNN, 64 to 224 px
# (benchmarks/photo_curves): 32 to 89 GFLOP a second. That of a GPU is a guess from one H100, where
# 700 steps a minute of any model were the limit.
_CORE = Speed(gflop_a_second=65.0, step_seconds=4e-4, image_seconds=1.5e-5)
_GPU = Speed(gflop_a_second=10_000.0, step_seconds=1.5e-4, image_seconds=1e-6)
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
    gflop_a_second = speed.gflop_a_second * (threads if device == "cpu" else 1)
    gflop, trained, tensors = _trained(architecture_of(recipe), recipe.unfrozen, num_classes)
    shares = has_shared_features(recipe)
    forward = trained if shares else 1.0
    images = num_train + num_validation
    seconds = (
        gflop * (num_train * (forward + 2 * trained) + num_validation * forward) / gflop_a_second
        + math.ceil(num_train / recipe.batch_size) * tensors * speed.step_seconds
        + images * speed.image_seconds
    )
    int8_epochs = recipe.epochs - recipe.num_float_epochs
    frozen = gflop * (1 - trained) * images / gflop_a_second if shares else 0.0
    return Effort(
        epoch=seconds * (1 + (_INT8_EPOCH - 1) * int8_epochs / recipe.epochs),
        int8_start=_INT8_START + _INT8_FROZEN_PASSES * frozen if recipe.qat else 0.0,
        int8_end=_INT8_END if recipe.qat else 0.0,
        float_epochs=recipe.num_float_epochs,
        once=_FROZEN_PASSES * frozen,
        shared=f"{recipe.model} {recipe.weights} {recipe.input_size}" if shares else None,
    )
