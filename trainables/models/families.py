"""The table of all model families, and which family has which model."""

from torch import nn

from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.yaml_files import did_you_mean
from trainables.models.baseline import BASELINE_FAMILY
from trainables.models.family import Family, Normalization
from trainables.models.torchvision_models import TORCHVISION

# The first family that has a name provides the model.
FAMILIES: dict[str, Family] = {
    "baseline": BASELINE_FAMILY,
    "torchvision": TORCHVISION,
}


def model_names() -> tuple[str, ...]:
    """The models of all families, in order, as `flopwise models list` shows them."""
    return tuple(name for family in FAMILIES.values() for name in family.names())


def family_of(name: str) -> Family:
    """The family that has a model. If none does, raises UserError with the nearest name."""
    for family in FAMILIES.values():
        if family.has_name(name):
            return family
    raise UserError(
        f"model: there is no {name}{did_you_mean(name, model_names())}"
        " (`flopwise models list` shows all)"
    )


def family_that_built(model: nn.Module) -> Family:
    """The family that knows a model's steps. Raises UserError if none does."""
    for family in FAMILIES.values():
        if family.built(model):
            return family
    raise UserError(
        f"unfrozen: the blocks of {type(model).__name__} are not known; leave unfrozen out"
        " to train the whole model"
    )


def normalization_of(recipe: Recipe) -> Normalization:
    """What the recipe's model expects of its images. Raises UserError for an unknown model."""
    return family_of(recipe.model).normalization(recipe)
