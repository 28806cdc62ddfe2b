"""The arithmetic of a dry run: expected epochs, times fitted to probes, trials on workers."""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from analysis.pareto.front import FloatArray

_MANY = 10_000  # counts as infinitely many


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """An uncertain number: its 10th, 50th and 90th percentile."""

    low: float
    middle: float
    high: float


def range_of(values: Sequence[float] | FloatArray) -> Range:
    """The 10th, 50th and 90th percentile of at least one value."""
    low, middle, high = np.percentile(values, (10, 50, 90))
    return Range(low=float(low), middle=float(middle), high=float(high))


def share_that_goes_on(trials: int | None, reduction: float) -> float:
    """The share of trials that go on past a rung, if they are equally good and come one by one.

    Each is compared with those before it, so the first always goes on. trials: None for infinitely
    many.
    """
    if trials is None or trials > _MANY:
        return 1 / reduction
    seats = (math.ceil(number / reduction) / number for number in range(1, trials + 1))
    return sum(seats) / trials if trials else 1.0


def expected_epochs(
    epochs: int, rungs: Iterable[int], reduction: float, *, trials: int | None = None
) -> float:
    """Epochs that a trial trains on average, if about 1 / reduction go on at each rung.

    rungs: epochs at which trials are compared; the last epoch and later ones have no effect.
    trials: how many reach the first rung; None for infinitely many. Of few, a larger share goes on.
    """
    expected, trained, share = 0.0, 0, 1.0
    for rung in sorted({rung for rung in rungs if 0 < rung < epochs}):
        expected += share * (rung - trained)
        going = share_that_goes_on(trials, reduction)
        trained, share = rung, share * going
        trials = None if trials is None else round(trials * going)
    return expected + share * (epochs - trained)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Measurements, in seconds or bytes, fitted as a sum of parts."""

    unit_of: FloatArray
    """(parts,) what one unit of each part takes; none is negative."""
    ratios: FloatArray
    """(measurements,) measured / fitted."""

    def at(self, amounts: FloatArray) -> FloatArray:
        """What (..., parts) amounts take."""
        return amounts @ self.unit_of

    def ratio_of(self, chosen: Sequence[bool]) -> float:
        """The geometric mean of the ratios of chosen measurements; 1 if none is chosen."""
        ratios = self.ratios[np.array(chosen, dtype=bool)]
        return float(np.exp(np.log(ratios).mean())) if len(ratios) else 1.0

    @property
    def misfit(self) -> float:
        """Standard deviation of measured / fitted, in logarithms: 0.2 is about 20 %.

        0 if there are no more measurements than parts, since it is unknown then.
        """
        spare = len(self.ratios) - int(np.count_nonzero(self.unit_of))
        return math.sqrt(float(np.sum(np.log(self.ratios) ** 2)) / spare) if spare > 0 else 0.0


def fit_parts(amounts: FloatArray, measured: FloatArray) -> Fit:
    """Fit measured = amounts @ x, x >= 0, by least squares of relative errors.

    amounts: (measurements, parts), at least one above 0 in each row; measured: above 0.
    """
    # Scale the parts, so that very different units weigh the same in the solver.
    scale = np.maximum(amounts.max(axis=0), np.finfo(float).tiny)
    solution, _ = nnls(amounts / scale / measured[:, None], np.ones(len(measured)))
    unit_of = solution / scale
    return Fit(unit_of=unit_of, ratios=measured / (amounts @ unit_of))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a simulated search took."""

    trials: int
    seconds: float
    """Wall time until the last trial ends."""
    worker_seconds: float
    """Summed over the trials."""


def run_through(
    trial_seconds: Iterable[float],
    *,
    workers: int,
    trials: int | None = None,
    hours: float | None = None,
    worker_hours: float | None = None,
) -> Course:
    """Give each trial in turn to the worker that is free first, until a limit is reached.

    trial_seconds: of each trial; endless unless trials is given. hours: no trial starts after this
    wall time. worker_hours: no trial starts once the started ones take this long together.
    """
    free = [0.0] * workers  # when each worker is free, in seconds: a heap
    count, spent, last = 0, 0.0, 0.0
    for seconds in trial_seconds:
        if count == trials or (hours is not None and free[0] >= hours * 3600):
            break
        if worker_hours is not None and spent >= worker_hours * 3600:
            break
        end = free[0] + seconds
        heapq.heapreplace(free, end)
        count, spent, last = count + 1, spent + seconds, max(last, end)
    return Course(trials=count, seconds=last, worker_seconds=spent)
