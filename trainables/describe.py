"""Describes models: a table of all of them, and the blocks of one."""

import dataclasses

from torch import nn

from spaces.recipe import Recipe, recipe_from
from trainables.cost import Cost, recipe_cost
from trainables.costing.macs import count_macs
from trainables.models.blocks import list_blocks
from trainables.models.building import build_on_meta
from trainables.models.families import family_of, model_names
from trainables.models.family import ModelSummary


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """One block of a model, or its head."""

    name: str
    unfrozen: int
    """The smallest `unfrozen` that trains it; 0 for the head."""
    params: int
    gmacs: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """A model block by block, from the input to the head."""

    name: str
    input_size: int
    num_classes: int
    cost: Cost
    rows: tuple[BlockRow, ...]


def list_models() -> tuple[ModelSummary, ...]:
    """All models, family by family. Models with published figures are not built."""
    return tuple(family_of(name).published(name) or _counted(name) for name in model_names())


def _counted(name: str) -> ModelSummary:
    recipe = Recipe(model=name)
    cost = recipe_cost(recipe, 1000)
    return ModelSummary(
        name=name,
        input_size=recipe.input_size,
        gmacs=cost.gmacs,
        params=cost.params,
        imagenet_accuracy=None,
    )


def describe_model(name: str, input_size: int, num_classes: int) -> ModelDescription:
    """The blocks of a model, counted without drawing its weights.

    Raises UserError for an unknown model and for a size that it can't take.
    """
    recipe = recipe_from({"model": name, "input_size": input_size})
    model = build_on_meta(recipe, num_classes)
    by_layer = count_macs(model, input_size).by_layer
    own_macs = {
        module: by_layer[path] for path, module in model.named_modules() if path in by_layer
    }

    def row(row_name: str, modules: tuple[nn.Module, ...], unfrozen: int) -> BlockRow:
        inner = {child for module in modules for child in module.modules()}
        return BlockRow(
            name=row_name,
            unfrozen=unfrozen,
            params=sum(p.numel() for module in modules for p in module.parameters()),
            gmacs=sum(own_macs.get(module, 0) for module in inner) / 1e9,
        )

    blocks = list_blocks(model)
    head = family_of(name).head(model)
    return ModelDescription(
        name=name,
        input_size=input_size,
        num_classes=num_classes,
        cost=recipe_cost(recipe, num_classes),
        rows=(
            *(
                row(block.name, block.modules, len(blocks) - index)
                for index, block in enumerate(blocks)
            ),
            row(head, (model.get_submodule(head),), 0),
        ),
    )
