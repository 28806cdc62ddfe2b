"""Draws a recipe's values from anywhere: stands in for Optuna's trial and stores nothing."""

from collections.abc import Callable
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from spaces.dimensions import Value
from spaces.recipe import Recipe
from spaces.space import SearchSpace


def params_and_distributions(
    space: SearchSpace, recipe: Recipe
) -> tuple[dict[str, Value], dict[str, BaseDistribution]]:
    """What Optuna would hold of a recipe: `SearchSpace.params_of`, with their distributions."""
    params = space.params_of(recipe)
    draw = Draw(lambda name, _: params[name])
    for name in params:
        space.rules[name].dimension.suggest(draw, name)
    return params, draw.distributions


class Draw:
    """Asks for the value of every parameter, with the distribution that Optuna would give it."""

    def __init__(self, value_of: Callable[[str, BaseDistribution], Any]) -> None:
        self._value_of = value_of
        self.distributions: dict[str, BaseDistribution] = {}
        """Of the parameters drawn so far."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._draw(name, CategoricalDistribution(choices))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self._draw(name, IntDistribution(low, high, log=log, step=step))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._draw(name, FloatDistribution(low, high, log=log, step=step))

    def _draw(self, name: str, distribution: BaseDistribution) -> Any:
        self.distributions[name] = distribution
        return self._value_of(name, distribution)
