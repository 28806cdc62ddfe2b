"""The arithmetic of a forecast: expected epochs, trials on workers, ranges."""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from search.decisions.stopping_rules import build_stopping_rule, has_setting
from search.study.study import Study
from spaces.columns import FloatArray

_MANY = 10_000  # counts as infinitely many
# For rules without a `reduction`: how many go on at each rung. Measured by replays with `gain`: of
# benchmarks/curves (27 epochs), 27 to 34 % of the epochs were trained, and this gives 31 %; of
# benchmarks/chance_curves (12 epochs) 49 %, and this gives 46 %. In a space of few recipes, `gain`
# trains all of them to their end.
_USUAL_REDUCTION = 1.25


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


def epochs_left_by_stopping(study: Study, epochs: int) -> float:
    """Epochs that a trial of this many trains on average, with the study's early stopping."""
    settings = study.early_stopping
    rungs = build_stopping_rule(settings, study.objectives).rungs(epochs)
    if not has_setting(settings.name, "reduction"):
        return expected_epochs(epochs, rungs, _USUAL_REDUCTION)
    return expected_epochs(epochs, rungs, settings.reduction, trials=study.budget.trials)


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
