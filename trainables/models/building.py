"""Builds a recipe's model from its family, with weights and a head for the classes."""

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from spaces.columns import ARCHITECTURE_FIELDS
from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.models.families import family_of
from trainables.models.weights import load_file


def build_model(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's model on the CPU, with its weights loaded and a head for num_classes.

    Takes (N, 3, input_size, input_size), returns logits (N, num_classes); for the baseline,
    log-probabilities. Random weights depend only on recipe.seed, and global random state does not
    change. Raises UserError for an unknown model, a size that it can't take, weights that don't
    fit.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed the GPUs' generators, for good.
        torch.default_generator.manual_seed(recipe.seed)
        model = build_architecture(recipe, num_classes)
    family = family_of(recipe.model)
    if recipe.weights == "imagenet":
        if family.load_imagenet is None:
            raise UserError(f"weights: there are no imagenet weights for {recipe.model}; use none")
        family.load_imagenet(model, recipe.model)
    elif recipe.weights != "none":
        load_file(model, recipe.weights, family, name=recipe.model)
    return model


def build_on_meta(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's model on the meta device: every shape, no values, built in about 0.05 s."""
    with _EmptyOnMeta():
        return build_architecture(recipe, num_classes).to("meta")


def build_architecture(recipe: Recipe, num_classes: int) -> nn.Module:
    """The recipe's model, with weights drawn from torch's global random state.

    Raises UserError for an unknown model and for a size that it can't take.
    """
    check_input_size(recipe.model, recipe.input_size)
    return family_of(recipe.model).build(recipe, num_classes)


def architecture_of(recipe: Recipe) -> Recipe:
    """A recipe with only those fields on which a model's cost depends."""
    return Recipe(**{name: getattr(recipe, name) for name in ARCHITECTURE_FIELDS})


def check_input_size(name: str, input_size: int) -> None:
    """Raise UserError if there is no such model, or if it can't take input_size pixels."""
    family_of(name).check_input_size(name, input_size)


class _EmptyOnMeta(TorchFunctionMode):
    """Creates parameters on the meta device, but other tensors with values.

    `with torch.device("meta")` would move all of them, and RegNet reads its widths from tensors.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
