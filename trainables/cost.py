"""What a model takes to run: multiply-adds, bit operations, parameters, size.

Counted: convolutions, linear layers and matrix products, attention's included. Left out: batch norm
(which folds away), other norms, activations, poolings, element-wise sums and products.
Not covered here: latency, which is measured on an exported model.
"""

import dataclasses
import functools

from torch import nn

from spaces.recipe import Recipe
from trainables.macs import count_macs
from trainables.models import build_on_meta

_FLOAT_BITS = 32


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one forward pass of one image, and of the model itself."""

    gmacs: float
    """Multiply-adds / 1e9."""
    gflops: float
    """2 x gmacs."""
    effective_gflops: float
    """2 x gbops / (32 x 32): gflops for a float32 model, 1/16 of it for int8."""
    gbops: float
    """Sum over layers of multiply-adds x weight bits x activation bits / 1e9."""
    params: int
    size_mb: float
    """Parameters and buffers in megabytes (1e6 bytes)."""
    latency_ms: float | None = None
    """None: not measured."""
    uncounted: tuple[str, ...] = ()
    """Operators that may hold multiply-adds and can't be counted; the other figures lack them."""


COST_COLUMNS: tuple[str, ...] = tuple(
    field.name for field in dataclasses.fields(Cost) if field.name != "uncounted"
)


def recipe_cost(recipe: Recipe, num_classes: int) -> Cost:
    """Cost of the recipe's model, without loading or even drawing its weights; cached.

    Raises UserError for an unknown model and for a size that it can't take.
    """
    # Equal architectures share an entry, whatever else their recipes say.
    architecture = Recipe(
        model=recipe.model,
        input_size=recipe.input_size,
        width=recipe.width,
        batch_norm=recipe.batch_norm,
        residual=recipe.residual,
    )
    return _architecture_cost(architecture, num_classes)


@functools.lru_cache(maxsize=1024)
def _architecture_cost(architecture: Recipe, num_classes: int) -> Cost:
    return measure_cost(build_on_meta(architecture, num_classes), architecture.input_size)


def measure_cost(model: nn.Module, input_size: int) -> Cost:
    """Cost of one forward pass of one (3, input_size, input_size) image; 2 FLOPs a multiply-add."""
    macs = count_macs(model, input_size)
    total = sum(macs.by_layer.values())
    bit_operations = total * _FLOAT_BITS * _FLOAT_BITS
    tensors = [*model.parameters(), *model.buffers()]
    return Cost(
        gmacs=total / 1e9,
        gflops=2 * total / 1e9,
        effective_gflops=2 * bit_operations / 32**2 / 1e9,
        gbops=bit_operations / 1e9,
        params=sum(parameter.numel() for parameter in model.parameters()),
        size_mb=sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6,
        uncounted=macs.uncounted,
    )
