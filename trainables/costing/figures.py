"""The cost of a model as figures. No torch, so code that decides or stores can do without it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from spaces.columns import COSTS, LATENCY


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one forward pass of one image, and of the model itself.

    Each figure that our own code uses has a property.
    """

    figures: Mapping[str, float]
    """By column of `spaces.columns.COSTS`. Columns that were not measured are missing."""
    uncounted: tuple[str, ...] = ()
    """Operators that may do multiply-adds but can't be counted. The figures lack them."""
    float_layers: tuple[str, ...] = ()
    """For an int8 model: layers that stay in float32, and are counted as such."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The cost that `to_dict` wrote, even if it went through JSON or a table."""
        figures = {name: values[name] for name in values if name not in _LISTS}
        return cls(
            figures={name: value for name, value in figures.items() if value is not None},
            **{name: tuple(values.get(name, ())) for name in _LISTS},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data: a figure for each column, None if it was not measured."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {name: self[name] for name in COSTS} | lists

    def __getitem__(self, column: str) -> float | None:
        """A figure by its column; None: not measured."""
        return self.figures.get(column)

    @property
    def gmacs(self) -> float:
        """Multiply-adds / 1e9."""
        return self.figures["gmacs"]

    @property
    def gflops(self) -> float:
        """2 x gmacs."""
        return self.figures["gflops"]

    @property
    def effective_gflops(self) -> float:
        """2 x gbops / (32 x 32): gflops for a float32 model, 1/16 of it for int8."""
        return self.figures["effective_gflops"]

    @property
    def gbops(self) -> float:
        """Sum over layers of multiply-adds x weight bits x activation bits / 1e9."""
        return self.figures["gbops"]

    @property
    def params(self) -> int:
        return int(self.figures["params"])

    @property
    def size_mb(self) -> float:
        """Parameters and buffers in megabytes (1e6 bytes); int8 weights as they are stored."""
        return self.figures["size_mb"]

    @property
    def latency_ms(self) -> float | None:
        """None: not measured."""
        return self[LATENCY]

    def with_latency(self, milliseconds: float) -> "Cost":
        """The same cost, with a measured latency."""
        return dataclasses.replace(self, figures={**self.figures, LATENCY: milliseconds})


_LISTS = ("uncounted", "float_layers")
