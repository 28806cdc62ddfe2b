"""How fast a machine is: seconds that were measured against seconds that were foretold."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_USUAL_WEIGHT = 4


class Timed(NamedTuple):
    """The same work, measured and foretold."""

    model: str
    measured: float
    """In seconds."""
    foretold: float
    """In seconds, by arithmetic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """By which factor foretold seconds become those of this machine."""

    by_model: Mapping[str, float]
    overall: float
    """For a model that was not measured."""
    errors: tuple[float, ...]
    """Logarithms of measured / calibrated, a number for each measurement."""

    def factor(self, model: str) -> float:
        """By which to multiply what was foretold for a recipe of this model."""
        return self.by_model.get(model, self.overall)

    def spread(self, usual: float) -> float:
        """Standard deviation of measured / calibrated, in logarithms: 0.2 is about 20 %.

        usual: what it is elsewhere. It weighs as much as a few measurements.
        """
        spare = len(self.errors) - len(self.by_model)
        squares = _USUAL_WEIGHT * usual**2 + sum(error**2 for error in self.errors)
        return math.sqrt(squares / (_USUAL_WEIGHT + spare))


def calibrate(measurements: Iterable[Timed]) -> Calibration:
    """The geometric mean of measured / foretold: of each model, and over all measurements.

    Without measurements, it is 1. Those that took no time at all are left out.
    """
    ratios: dict[str, list[float]] = defaultdict(list)
    for model, measured, foretold in measurements:
        if measured > 0:
            ratios[model].append(math.log(measured / foretold))
    if not ratios:
        return Calibration(by_model={}, overall=1.0, errors=())
    own = {model: float(np.mean(values)) for model, values in ratios.items()}
    logarithms = [(model, value) for model, values in ratios.items() for value in values]
    return Calibration(
        by_model={model: math.exp(value) for model, value in own.items()},
        overall=math.exp(float(np.mean([value for _, value in logarithms]))),
        errors=tuple(value - own[model] for model, value in logarithms),
    )
