"""Multiply-adds of a model, layer by layer, counted on the meta device: shapes and no values.

For the operators that we count, the figures equal fvcore's; a test checks this. fvcore has to run
the model on the CPU, since torch.jit can't trace the meta device. That takes seconds and gigabytes
for large models; this takes 0.1 to 0.5 s.
"""

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LayerMacs:
    """Multiply-adds for one image, by layer."""

    by_layer: dict[str, int]
    """Path of the module -> its own multiply-adds, without its children's. No entry is 0."""
    output_shapes: dict[str, tuple[int, ...]]
    """Path of each module that ran -> the shape of its (first) output, without the batch."""
    uncounted: tuple[str, ...]
    """Operators that we do not know, and that may do multiply-adds."""


def count_macs(model: nn.Module, input_size: int) -> LayerMacs:
    """Multiply-adds of one forward pass, in evaluation, of one (3, input_size, input_size) image.

    The model may be on any device, even the meta device. It is not changed.
    """
    state = {
        name: tensor.detach().to("meta")
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    dtype = next(model.parameters()).dtype
    image_NCHW = torch.empty(1, 3, input_size, input_size, device="meta", dtype=dtype)
    path, shapes = [""], {}
    counter = _MacCounter(path)
    with _evaluating(model), _following(model, path, shapes), torch.no_grad(), counter:
        functional_call(model, state, (image_NCHW,))
    return LayerMacs(
        by_layer=dict(counter.by_layer),
        output_shapes=shapes,
        uncounted=tuple(sorted(counter.uncounted)),
    )


class _MacCounter(TorchDispatchMode):
    """Adds the multiply-adds of each operator to the module at the end of path."""

    def __init__(self, path: list[str]) -> None:
        super().__init__()
        self.path = path
        self.by_layer: Counter[str] = Counter()
        self.uncounted: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if operator in _MACS:
            self.by_layer[self.path[-1]] += _MACS[operator](args, output)
        elif not (func.is_view or torch.Tag.pointwise in func.tags or operator in _WITHOUT_MACS):
            self.uncounted.add(str(operator).replace(".", "::"))
        return output


def _convolution(args: Sequence[Any], output: torch.Tensor) -> int:
    x_NCHW, weight_OIHW, transposed = args[0], args[1], args[6]
    # Every weight is used once for each output pixel, or input pixel if it is transposed.
    pixels = math.prod((x_NCHW if transposed else output).shape[2:])
    return len(x_NCHW) * weight_OIHW.numel() * pixels


def _product(args: Sequence[Any], _output: torch.Tensor) -> int:
    left, right = args[0], args[1]
    return left.numel() * right.shape[-1]


def _product_and_sum(args: Sequence[Any], output: torch.Tensor) -> int:
    return _product(args[1:], output)


# Linear layers, matmul, einsum and attention are made of these; see the registry of
# torch.utils.flop_counter.
_MACS: dict[Any, Callable[[Sequence[Any], torch.Tensor], int]] = {
    aten.convolution: _convolution,
    aten.mm: _product,
    aten.bmm: _product,
    aten.addmm: _product_and_sum,
    aten.baddbmm: _product_and_sum,
}

# Left out by definition: norms, poolings, softmax, reductions, and operators that only move memory.
# Torch itself marks views and most element-wise operators.
_WITHOUT_MACS = frozenset(
    (
        *(aten.native_batch_norm, aten.native_layer_norm, aten.native_group_norm),
        *(aten.linalg_vector_norm, aten.mean, aten.sum, aten.amax, aten.hardswish_),
        *(aten.max_pool2d_with_indices, aten.avg_pool2d, aten._adaptive_avg_pool2d),
        *(aten._softmax, aten._safe_softmax, aten._log_softmax),
        *(aten.as_strided_, aten._unsafe_view, aten.cat, aten.constant_pad_nd, aten.copy_),
        *(aten.empty, aten.index, aten.new_zeros, aten.roll, aten.scalar_tensor, aten.zero_),
        *(aten.clone, aten.stack, aten._to_copy),
        *(aten.zeros, aten.ones, aten.full, aten.fill_, aten.arange),
    )
)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while. Afterwards each module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _following(
    model: nn.Module, path: list[str], shapes: dict[str, tuple[int, ...]]
) -> Iterator[None]:
    """Keep the running module's name at the end of path, and note its output's shape."""
    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():

            def enter(*_: object, name: str = name) -> None:
                path.append(name)

            def leave(_module: object, _inputs: object, output: Any, name: str = name) -> None:
                path.pop()
                first = output[0] if isinstance(output, tuple | list) else output
                if isinstance(first, torch.Tensor):
                    shapes[name] = tuple(first.shape[1:])

            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        yield
