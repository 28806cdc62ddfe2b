"""What a model takes to run: multiply-adds, bit operations, parameters, size.

Counted: convolutions, linear layers and matrix products, including those of attention. Left out:
batch norm (which folds away), other norms, activations, poolings, element-wise sums and products.

An int8 model (qat) does the same multiply-adds as its float model, and they are counted there.
Counters don't know the operators of a quantised model, and would call it free. Bit operations show
what int8 saves: each layer's depend on its bit widths.
Not covered here: latency, which is measured on an exported model.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from torch import nn

from spaces.recipe import Recipe
from trainables.costing.figures import Cost
from trainables.costing.macs import LayerMacs, count_macs
from trainables.costing.training_cost import layer_macs
from trainables.models.building import architecture_of

_FLOAT_BITS = 32
_INT8_BITS = 8
# Each output of an int8 layer has a float32 scale and bias, and an int8 zero point.
_BYTES_AN_OUTPUT = 4 + 4 + 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CountedModel:
    """What is known of a model before it is trained."""

    model: nn.Module
    """The float model, on any device, even the meta device."""
    input_size: int
    """Height and width of the image, in pixels."""
    macs_by_layer: Mapping[str, int]
    """Multiply-adds of one forward pass of one image."""
    bits_by_layer: Mapping[str, int]
    """The bits of weights and activations in each layer."""
    int8_layers: frozenset[str]

    @property
    def macs(self) -> int:
        return sum(self.macs_by_layer.values())

    @property
    def bit_operations(self) -> int:
        """Multiply-adds x weight bits x activation bits, summed over layers."""
        bits = self.bits_by_layer
        return sum(number * bits[name] ** 2 for name, number in self.macs_by_layer.items())


# How to compute each cost in `spaces.columns.COSTS` that depends only on the model. They are cached
# by the fields in `architecture_of`, so no other field of a recipe may change one.
MEASURES: dict[str, Callable[[CountedModel], float]] = {
    "gmacs": lambda counted: counted.macs / 1e9,
    "gflops": lambda counted: 2 * counted.macs / 1e9,
    "effective_gflops": lambda counted: 2 * counted.bit_operations / 32**2 / 1e9,
    "gbops": lambda counted: counted.bit_operations / 1e9,
    "params": lambda counted: sum(weights.numel() for weights in counted.model.parameters()),
    "size_mb": lambda counted: _stored_bytes(counted.model, counted.int8_layers) / 1e6,
}


def recipe_cost(recipe: Recipe, num_classes: int) -> Cost:
    """Cost of the recipe's model, without loading or drawing its weights. Results are cached.

    Raises UserError for an unknown model and for a size that it can't take.
    """
    return _architecture_cost(architecture_of(recipe), num_classes)


@functools.lru_cache(maxsize=1024)
def _architecture_cost(architecture: Recipe, num_classes: int) -> Cost:
    model, macs = layer_macs(architecture, num_classes)
    return _measure(model, macs, architecture.input_size, int8=architecture.qat)


def measure_cost(model: nn.Module, input_size: int, *, int8: bool = False) -> Cost:
    """Cost of one forward pass of one (3, input_size, input_size) image; 2 FLOPs a multiply-add.

    model: always the float model. int8: return the cost of its quantised form.
    """
    return _measure(model, count_macs(model, input_size), input_size, int8=int8)


def _measure(model: nn.Module, macs: LayerMacs, input_size: int, *, int8: bool) -> Cost:
    bits = bits_by_layer(model, macs, int8=int8)
    quantised = frozenset(name for name in bits if bits[name] == _INT8_BITS)
    counted = CountedModel(
        model=model,
        input_size=input_size,
        macs_by_layer=macs.by_layer,
        bits_by_layer=bits,
        int8_layers=quantised,
    )
    return Cost(
        figures={name: measure(counted) for name, measure in MEASURES.items()},
        uncounted=macs.uncounted,
        float_layers=tuple(name for name in bits if int8 and name not in quantised),
    )


def bits_by_layer(model: nn.Module, macs: LayerMacs, *, int8: bool) -> dict[str, int]:
    """The bits of weights and activations in each layer that does multiply-adds."""
    # Leave out layers that never run themselves. Attention uses their weights, which stay float.
    quantised = int8_layers(model) & macs.by_layer.keys() if int8 else frozenset()
    return {name: _INT8_BITS if name in quantised else _FLOAT_BITS for name in macs.by_layer}


def int8_layers(model: nn.Module) -> frozenset[str]:
    """Paths of the layers that quantisation makes int8: convolutions and linear layers.

    If another module multiplies a layer's weights itself, as attention does with its projections,
    they stay float. `count_macs` counts their multiply-adds for that module.
    """
    return frozenset(
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    )


def _stored_bytes(model: nn.Module, quantised: frozenset[str]) -> int:
    """Bytes of all tensors. In a quantised model, batch norm is part of the layer before it."""
    stored = 0
    for name, module in model.named_modules():
        if name in quantised:
            assert isinstance(module, nn.Conv2d | nn.Linear)
            stored += module.weight.numel() + len(module.weight) * _BYTES_AN_OUTPUT
        elif not (quantised and isinstance(module, nn.BatchNorm2d)):
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            stored += sum(tensor.numel() * tensor.element_size() for tensor in own)
    return stored
