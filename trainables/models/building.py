"""Models by name: the baseline CNN and torchvision's classifiers, with a head for the classes."""

import functools
from typing import Any

import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from spaces.errors import UserError
from spaces.recipe import BASELINE, Recipe
from spaces.yaml_files import did_you_mean
from trainables.models.baseline import BaselineCNN
from trainables.models.weights import load_file, load_imagenet

# What torchvision's builders need beside num_classes, by family. Auxiliary heads would change the
# type of the output in training; without init_weights both families warn.
_NO_AUXILIARY = {"aux_logits": False, "init_weights": True}
_BUILD_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": _NO_AUXILIARY,
    "inception_v3": _NO_AUXILIARY,
}

# Below these sizes, in pixels, poolings and convolutions without padding leave nothing.
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
# A vision transformer cuts the image into patches, MaxViT its smallest feature map into 7 x 7.
_INPUT_MULTIPLE = {
    "vit_b_16": 16,
    "vit_l_16": 16,
    "vit_b_32": 32,
    "vit_l_32": 32,
    "vit_h_14": 14,
    "maxvit_t": 224,
}


@functools.cache
def model_names() -> tuple[str, ...]:
    """Every name that a recipe's `model` may have: the baseline first, then torchvision's."""
    return (BASELINE, *sorted(torchvision.models.list_models(module=torchvision.models)))


def build_model(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's model on the CPU, with its weights loaded and a head for num_classes.

    Takes (N, 3, input_size, input_size), returns logits (N, num_classes), of the baseline
    log-probabilities. Random weights are a function of recipe.seed; global random state stays as it
    was. Raises UserError for an unknown model, a size that it can't take, weights that don't fit.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs' generators too, and leave them so.
        torch.default_generator.manual_seed(recipe.seed)
        model = build_architecture(recipe, num_classes)
    if recipe.weights == "imagenet":
        load_imagenet(model, recipe.model)
    elif recipe.weights != "none":
        load_file(model, recipe.weights)
    return model


def build_on_meta(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's model on the meta device: every shape, no values, built in about 0.05 s."""
    with _EmptyOnMeta():
        return build_architecture(recipe, num_classes).to("meta")


def build_architecture(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's model, its weights drawn from torch's global random state.

    Raises UserError for an unknown model and for a size that it can't take.
    """
    name, size = recipe.model, recipe.input_size
    if name == BASELINE:
        return BaselineCNN(num_classes, size, recipe.width, recipe.batch_norm, recipe.residual)
    check_input_size(name, size)
    options = dict(_BUILD_OPTIONS.get(name, {}))
    if recipe.width != 1:
        options["width_mult"] = recipe.width
    if name.startswith("vit_"):
        options["image_size"] = size
    elif name.startswith("maxvit_"):
        options["input_size"] = (size, size)
    return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)


def architecture_of(recipe: Recipe) -> Recipe:
    """A recipe of the fields alone on which a model's cost depends."""
    return Recipe(
        model=recipe.model,
        input_size=recipe.input_size,
        width=recipe.width,
        batch_norm=recipe.batch_norm,
        residual=recipe.residual,
        qat=recipe.qat,
    )


def check_model_name(name: str) -> None:
    """Raise UserError with the nearest name where there is no such model."""
    if name not in model_names():
        raise UserError(
            f"model: there is no {name}{did_you_mean(name, model_names())}"
            " (`flopwise models list` shows all)"
        )


def check_input_size(name: str, input_size: int) -> None:
    """Raise UserError where there is no such model, or it can't take input_size pixels."""
    check_model_name(name)
    smallest = next((s for stem, s in _SMALLEST_INPUT.items() if name.startswith(stem)), 1)
    if input_size < smallest:
        raise UserError(
            f"input_size: {input_size} px is too small for {name}; use at least {smallest}"
        )
    multiple = _INPUT_MULTIPLE.get(name, 1)
    if input_size % multiple:
        nearest = max(1, round(input_size / multiple)) * multiple
        raise UserError(
            f"input_size: {name} takes multiples of {multiple} px, not {input_size}; use {nearest}"
        )


class _EmptyOnMeta(TorchFunctionMode):
    """Parameters are born on the meta device, while what models compute meanwhile has values.

    `with torch.device("meta")` would move that too, and RegNet reads its widths from tensors.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
