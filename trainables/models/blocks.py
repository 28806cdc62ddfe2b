"""Blocks, the units that a recipe's `unfrozen` counts: listing, freezing, cutting."""

import dataclasses
from collections.abc import Iterator
from itertools import pairwise

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from spaces.errors import UserError
from trainables.models.families import family_that_built
from trainables.models.forward_steps import Step

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Modules that are frozen or trained together.

    name is the path of the first one that has parameters, such as features.3 or layer2.0.
    """

    name: str
    modules: tuple[nn.Module, ...]

    def parameters(self) -> Iterator[nn.Parameter]:
        for module in self.modules:
            yield from module.parameters()


def list_blocks(model: nn.Module) -> tuple[Block, ...]:
    """The model's blocks in forward order. With the head, they hold every parameter once.

    Baseline: its four convolutions. MobileNets, EfficientNets: features.0 to features.N, then
    MobileNetV3's classifier.0. ResNets: conv1, layer1.0, layer1.1 ... In other models, a block is a
    layer or a residual unit. Norm layers, activations and poolings belong to the block before them,
    dropout to the block after it. Raises UserError for a family whose blocks are not known.
    """
    return tuple(
        Block(
            name=next(step.name for step in steps if _has_parameters(step)),
            modules=tuple(step.module for step in steps),
        )
        for steps in _steps_of_blocks(model)[:-1]
    )


def freeze(model: nn.Module, unfrozen: int | None) -> None:
    """Train only the last `unfrozen` blocks and the head, and freeze the others; None: train all.

    Raises UserError if the model has fewer blocks. See set_training for batch norm and dropout.
    """
    model.requires_grad_(True)
    if unfrozen is None:
        return
    blocks = list_blocks(model)
    for block in blocks[: _num_frozen(model, len(blocks), unfrozen)]:
        for parameter in block.parameters():
            parameter.requires_grad_(False)


def set_training(model: nn.Module) -> None:
    """Put frozen blocks into evaluation mode and the rest into training mode.

    Call it instead of model.train(), which would let frozen batch norm drift away from the
    statistics that its weights were trained with.
    """
    model.train()
    if all(parameter.requires_grad for parameter in model.parameters()):
        return
    for block in list_blocks(model):
        if not any(parameter.requires_grad for parameter in block.parameters()):
            for module in block.modules:
                module.eval()


def split_model(model: nn.Module, unfrozen: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut the model before its last `unfrozen` blocks: suffix(prefix(images)) is model(images).

    Both parts share the model's modules and parameters. The prefix ends after the frozen blocks'
    last pooling, where its output is smallest. Dropout belongs to the suffix, which does not change
    its input. Raises UserError if the model has fewer blocks.
    """
    num_blocks = len(_steps_of_blocks(model)) - 1
    cut = _num_frozen(model, num_blocks, unfrozen)
    return model_between(model, 0, cut), model_between(model, cut, None)


def model_between(model: nn.Module, start: int, stop: int | None) -> nn.Sequential:
    """The blocks start to stop - 1; None: to the end, including the head.

    It takes the output of the blocks before start, so a deeper cut can continue a shallower one.
    """
    blocks = _steps_of_blocks(model)
    assert 0 <= start <= (stop if stop is not None else start) < len(blocks)
    part = nn.Sequential(*(step.module for steps in blocks[start:stop] for step in steps))
    # Do not change a cached input: only a leading dropout works in place on its input.
    if start > 0 and len(part) and isinstance(part[0], _DropoutNd):
        part[0].inplace = False  # pyright: ignore[reportArgumentType]
    return part


def _steps_of_blocks(model: nn.Module) -> list[list[Step]]:
    """The forward pass by block. The head and the steps around it come last."""
    family = family_that_built(model)
    head = model.get_submodule(family.head(model))
    steps = family.steps(model)
    starts = [0]
    waiting: int | None = None  # a dropout that belongs to the next block
    for index, step in enumerate(steps):
        is_start = _has_parameters(step) and not isinstance(step.module, _NORMS)
        if isinstance(step.module, _DropoutNd) and waiting is None:
            waiting = index
        elif is_start and any(_has_parameters(before) for before in steps[:index]):
            starts.append(index if waiting is None else waiting)
        if is_start:
            waiting = None
        if step.module is head:
            break
    return [list(steps[start:stop]) for start, stop in pairwise([*starts, len(steps)])]


def _has_parameters(step: Step) -> bool:
    return next(step.module.parameters(), None) is not None


def _num_frozen(model: nn.Module, num_blocks: int, unfrozen: int) -> int:
    if unfrozen > num_blocks:
        raise UserError(
            f"unfrozen: {type(model).__name__} has {num_blocks} blocks, not {unfrozen};"
            f" use 0 to {num_blocks}, or leave it out to train all"
        )
    return num_blocks - unfrozen
