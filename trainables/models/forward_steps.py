"""A model's forward pass as a flat sequence of modules, from which blocks and cuts are made."""

import dataclasses
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One module of the sequence. name: its path in the model, or empty if it has none."""

    name: str
    module: nn.Module


Stop = str | Callable[[Tensor], Tensor] | Step
"""One element of a route: the path of a module (a container is opened); a path that ends with "/"
(its children are steps, unopened); a function of a tensor; or a ready step."""

Route = tuple[Stop, ...]

OpenUp = Callable[[str, nn.Module], Route | None]
"""From a path and its module to the route through it, if its class needs a special one."""


def steps_along(
    model: nn.Module, route: Route, *, head: str | None = None, open_up: OpenUp | None = None
) -> tuple[Step, ...]:
    """Turn a route through a model into steps. Run in order, they must be its forward pass.

    They share the model's own modules and parameters. Containers (Sequential, ModuleList) are
    replaced by their children, unless one holds a single layer with its norm and activation. head:
    path of the layer whose outputs are the classes, always a step by itself; by default the last.
    """
    walk = _Walk(
        model=model,
        head=model.get_submodule(last_layer(model) if head is None else head),
        open_up=open_up or (lambda _path, _module: None),
    )
    return tuple(walk.along(route))


def last_layer(model: nn.Module) -> str:
    """Path of the last linear layer or convolution, which is the head of most models."""
    paths = [
        path for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    assert paths, "a classifier has a layer"
    return paths[-1]


def flatten(x: Tensor) -> Tensor:
    """Flatten each image's values: (N, ...) to (N, D)."""
    return torch.flatten(x, 1)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    model: nn.Module
    head: nn.Module
    open_up: OpenUp

    def along(self, route: Route) -> Iterator[Step]:
        for stop in route:
            if isinstance(stop, Step):
                yield stop
            elif not isinstance(stop, str):
                yield Step(name="", module=_Function(stop))
            elif stop.endswith("/"):
                path = stop.removesuffix("/")
                for name, child in self.model.get_submodule(path).named_children():
                    yield Step(name=f"{path}.{name}", module=child)
            else:
                yield from self._into(stop)

    def _into(self, path: str) -> Iterator[Step]:
        """The steps inside a container. Any other module is one step."""
        module = self.model.get_submodule(path)
        route = self.open_up(path, module)
        if route is not None:
            yield from self.along(route)
        elif isinstance(module, nn.Sequential | nn.ModuleList) and not self._is_unit(module):
            for name, _ in module.named_children():
                yield from self._into(f"{path}.{name}")
        else:
            yield Step(name=path, module=module)

    def _is_unit(self, module: nn.Module) -> bool:
        """Whether it is one convolution or linear layer with its norm and activation."""
        children = list(module.children())
        weighted = [child for child in children if isinstance(child, nn.Linear | nn.Conv2d)]
        leaves = not any(next(child.children(), None) for child in children)
        return leaves and len(weighted) == 1 and self.head not in children


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
