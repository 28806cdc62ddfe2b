"""Stand-ins for Optuna's trial that store nothing: values come from a seed or from a function."""

import math
import random
from collections.abc import Callable
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


class RandomTrial:
    """Draws uniform values, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._random.choice(choices)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        if log:
            return round(self._log_uniform(low, high))
        return self._random.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if log:
            return self._log_uniform(low, high)
        if step is not None:
            return min(low + step * self._random.randint(0, round((high - low) / step)), high)
        return self._random.uniform(low, high)

    def _log_uniform(self, low: float, high: float) -> float:
        drawn = math.exp(self._random.uniform(math.log(low), math.log(high)))
        return min(max(drawn, low), high)  # exp(log(low)) may round below low


class Draw:
    """Takes values from a function of a parameter's name and its distribution in Optuna."""

    def __init__(self, value_of: Callable[[str, BaseDistribution], Any]) -> None:
        self._value_of = value_of
        self.distributions: dict[str, BaseDistribution] = {}
        """The distributions of the parameters drawn so far."""

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
