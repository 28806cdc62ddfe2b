"""fvcore's count of a model's operations, to hold ours against.

fvcore traces the model while it runs on the CPU: seconds and gigabytes for a large one. It calls a
multiply-add a flop. Unlike `count_macs`, it also counts norms and poolings, and it rounds einsum to
four digits.
"""

import dataclasses
import warnings
from collections import Counter

import torch
from torch import nn


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FvcoreCounts:
    """What fvcore counts in one forward pass of one image."""

    by_layer: dict[str, int]
    """Path of the module -> its own count, without its children's. No entry is 0."""
    by_operator: dict[str, int]
    """fvcore's name of the operator -> its count."""
    missed: dict[str, int]
    """Operators that fvcore does not count -> how often they run; the most frequent first."""

    @property
    def total(self) -> int:
        return sum(self.by_operator.values())


def count_with_fvcore(model: nn.Module, input_size: int) -> FvcoreCounts:
    """Count a model in evaluation, on the CPU, for one (3, input_size, input_size) image.

    Raises whatever torch.jit or the model raises if it can't be traced.
    """
    # With gradients: without them, torch runs attention as one operator that fvcore does not know.
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and fvcore is made of it
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model, (torch.zeros(1, 3, input_size, input_size),))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        inclusive = analysis.by_module()
        own = Counter(inclusive)
        for name in inclusive:
            if name:
                own[name.rpartition(".")[0]] -= inclusive[name]
        return FvcoreCounts(
            by_layer={name: int(number) for name, number in own.items() if number},
            by_operator={name: int(number) for name, number in analysis.by_operator().items()},
            missed=dict(analysis.unsupported_ops().most_common()),
        )
