"""How fast a machine is: seconds that were measured against seconds that were foretold."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


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
    spread: float
    """Standard deviation of measured / calibrated, in logarithms: 0.2 is about 20 %.

    0 if no model was measured twice, since it is unknown then.
    """

    def factor(self, model: str) -> float:
        """By which to multiply what was foretold for a recipe of this model."""
        return self.by_model.get(model, self.overall)


def calibrate(measurements: Iterable[Timed]) -> Calibration:
    """The geometric mean of measured / foretold: of each model, and over all measurements.

    Without measurements, it is 1. Those that took no time at all are left out.
    """
    ratios: dict[str, list[float]] = defaultdict(list)
    for model, measured, foretold in measurements:
        if measured > 0:
            ratios[model].append(math.log(measured / foretold))
    if not ratios:
        return Calibration(by_model={}, overall=1.0, spread=0.0)
    own = {model: float(np.mean(values)) for model, values in ratios.items()}
    errors = [value - own[model] for model, values in ratios.items() for value in values]
    spare = len(errors) - len(ratios)
    return Calibration(
        by_model={model: math.exp(value) for model, value in own.items()},
        overall=math.exp(float(np.mean([value for each in ratios.values() for value in each]))),
        spread=math.sqrt(sum(error**2 for error in errors) / spare) if spare else 0.0,
    )
