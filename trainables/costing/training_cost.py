"""How much training a recipe takes, in multiply-adds, computed without training it."""

import functools

from torch import nn

from spaces.recipe import Recipe
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
    if recipe.unfrozen is None:
        return 1.0
    model, macs = _layer_macs(architecture_of(recipe), num_classes)
    freeze(model, recipe.unfrozen)
    trained = sum(
        number
        for name, number in macs.by_layer.items()
        if any(weight.requires_grad for weight in model.get_submodule(name).parameters())
    )
    return trained / sum(macs.by_layer.values())


@functools.lru_cache(maxsize=_MOST_ARCHITECTURES)
def _layer_macs(architecture: Recipe, num_classes: int) -> tuple[nn.Module, LayerMacs]:
    model = build_on_meta(architecture, num_classes)
    return model, count_macs(model, architecture.input_size)
