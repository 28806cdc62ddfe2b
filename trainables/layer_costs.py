"""What a recipe's model takes to run, layer by layer, with fvcore's count beside ours."""

import dataclasses

from spaces.recipe import Recipe
from trainables.cost import bits_by_layer
from trainables.costing.fvcore_counts import FvcoreCounts, count_with_fvcore
from trainables.costing.macs import count_macs
from trainables.models.building import build_model

# fvcore's names of the operators whose multiply-adds we count too. We leave out its others.
_MULTIPLYING = frozenset(("addmm", "bmm", "conv", "einsum", "linear", "matmul", "mm"))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """A module with parameters, or with operations that we or fvcore count, without its children.

    All numbers are for one image.
    """

    name: str
    kind: str
    """The module's class."""
    output_shape: tuple[int, ...] | None
    """Without the batch; None: another module uses its weights, and it does not run itself."""
    params: int
    macs: int
    bits: int | None
    """Of its weights and activations; None: it does no multiply-adds."""
    fvcore: int | None
    """fvcore's count; None: fvcore can't count this model."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LayerCosts:
    """The layers of a model in order, and fvcore's sums."""

    layers: tuple[LayerCost, ...]
    fvcore: FvcoreCounts | None
    problem: str | None
    """Why fvcore can't count this model, in one line."""

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def left_out(self) -> dict[str, int]:
        """Operators that fvcore counts and we leave out (norms, poolings) -> fvcore's count."""
        counts = self.fvcore.by_operator if self.fvcore else {}
        return {name: counts[name] for name in counts if name not in _MULTIPLYING}


def layer_costs(recipe: Recipe, num_classes: int) -> LayerCosts:
    """Count each layer of a recipe's model; an int8 recipe's in its float model.

    Builds the model with random weights on the CPU and runs it once, for fvcore. Raises UserError
    for an unknown model and for a size that it can't take.
    """
    model = build_model(recipe.replace(weights="none"), num_classes).eval()
    macs = count_macs(model, recipe.input_size)
    bits = bits_by_layer(model, macs, int8=recipe.qat)
    fvcore, problem = None, None
    try:
        fvcore = count_with_fvcore(model, recipe.input_size)
    except Exception as error:  # torch.jit runs the code of any family, which may raise anything
        problem = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    layers, seen = [], set()
    for name, module in model.named_modules():
        own = [weights for weights in module.parameters(recurse=False) if weights not in seen]
        seen.update(own)
        theirs = fvcore.by_layer.get(name, 0) if fvcore else None
        if own or theirs or name in macs.by_layer:
            layers.append(
                LayerCost(
                    name=name,
                    kind=type(module).__name__,
                    output_shape=macs.output_shapes.get(name),
                    params=sum(weights.numel() for weights in own),
                    macs=macs.by_layer.get(name, 0),
                    bits=bits.get(name),
                    fvcore=theirs,
                )
            )
    return LayerCosts(layers=tuple(layers), fvcore=fvcore, problem=problem)
