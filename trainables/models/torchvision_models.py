"""torchvision's classification models: names, input sizes, build options, weights."""

import contextlib
import functools
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.models.family import (
    IMAGENET_NORMALIZATION,
    Family,
    ModelSummary,
    Normalization,
    State,
)
from trainables.models.forward_steps import last_layer
from trainables.models.input_sizes import check_input_size
from trainables.models.torchvision_steps import is_known, torchvision_steps
from trainables.models.weights import DAMAGE, is_in, load_state

# Build options besides num_classes, by name. Auxiliary heads would change the type of the output in
# training. Without init_weights, both models warn.
_NO_AUXILIARY = {"aux_logits": False, "init_weights": True}
_BUILD_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": _NO_AUXILIARY,
    "inception_v3": _NO_AUXILIARY,
}
# These weights come from TensorFlow, whose images go from -1 to 1. (torchvision's own models
# convert ImageNet's normalisation to that, by `transform_input`.)
_FROM_MINUS_1_TO_1 = ("googlenet", "inception_v3")
# The files for GoogLeNet and Inception v3 have auxiliary heads; our models don't.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
# The DenseNet files are older than the rule that module names have no dots.
_OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(torchvision.models.list_models(module=torchvision.models)))


def _build(recipe: Recipe, num_classes: int) -> nn.Module:
    name, size = recipe.model, recipe.input_size
    options = dict(_BUILD_OPTIONS.get(name, {}))
    if recipe.width != 1:
        options["width_mult"] = recipe.width
    if name.startswith("vit_"):
        options["image_size"] = size
    elif name.startswith("maxvit_"):
        options["input_size"] = (size, size)
    return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)


def _normalization(recipe: Recipe) -> Normalization:
    if recipe.model in _FROM_MINUS_1_TO_1 and recipe.weights == "imagenet":
        return Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return IMAGENET_NORMALIZATION


def _load_imagenet(model: nn.Module, name: str) -> None:
    """Load the default weights from torch.hub's cache, or download them into it.

    If the hub can't be reached, raises UserError with the file and where to put it.
    """
    weights = torchvision.models.get_model_weights(name).DEFAULT  # pyright: ignore
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, *DAMAGE) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        problem = "is damaged" if file.exists() else f"could not be downloaded ({reason})"
        raise UserError(
            f"weights: imagenet for {name}: {file.name} {problem};"
            f" download {weights.url} on a machine with network access and put it at {file}"
        ) from None
    head = last_layer(model)
    state = {key: value for key, value in state.items() if not is_in(key, head)}
    state = _translate(model, state)
    load_state(model, state, head=head, source=f"weights: imagenet for {name}", name=name)


def _translate(model: nn.Module, state: State) -> State:
    """Rename keys of older files, and adapt what depends on the input size."""
    if isinstance(model, torchvision.models.DenseNet):
        state = {_OLD_DENSENET_KEY.sub(r"\1\2", key): value for key, value in state.items()}
    if isinstance(model, torchvision.models.GoogLeNet | torchvision.models.Inception3):
        state = {key: value for key, value in state.items() if not key.startswith(_AUXILIARY)}
    if isinstance(model, VisionTransformer) and "encoder.pos_embedding" in state:
        with contextlib.suppress(ValueError):  # load_state then reports its shape with the others
            state = dict(
                interpolate_embeddings(model.image_size, model.patch_size, OrderedDict(state))
            )
    return state


def _published(name: str) -> ModelSummary:
    weights = torchvision.models.get_model_weights(name).DEFAULT  # pyright: ignore
    return ModelSummary(
        name=name,
        input_size=weights.transforms().crop_size[0],
        gmacs=weights.meta["_ops"],
        params=weights.meta["num_params"],
        imagenet_accuracy=weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100,
    )


TORCHVISION = Family(
    has_name=lambda name: name in _names(),
    names=_names,
    check_input_size=check_input_size,
    build=_build,
    built=is_known,
    steps=torchvision_steps,
    normalization=_normalization,
    load_imagenet=_load_imagenet,
    translate=_translate,
    published=_published,
    packages=("torchvision",),
)
