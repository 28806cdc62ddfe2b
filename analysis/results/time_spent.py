"""What became of each trial, and where the time went: by model and by outcome."""

from dataclasses import dataclass

import numpy as np

from analysis.columns import COMPLETE, FAIL, PAUSED, PRUNED
from analysis.pareto.front import FloatArray, IntArray
from analysis.runs import Run

ON_FRONT, OFF_FRONT, STOPPED = "on the front", "off the front", "stopped early"
NOT_BEGUN, FAILED, UNFINISHED, ASIDE = "not begun", "failed", "unfinished", "paused"
OUTCOMES = (ON_FRONT, OFF_FRONT, STOPPED, NOT_BEGUN, FAILED, UNFINISHED, ASIDE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpent:
    """Seconds in epochs and numbers of trials, by model and by outcome."""

    models: tuple[str, ...]
    """The one that took most time first."""
    outcomes: tuple[str, ...]
    """Those of OUTCOMES that a trial has."""
    seconds: FloatArray
    """(models, outcomes)"""
    trials: IntArray
    """(models, outcomes)"""


def trial_outcomes(run: Run) -> list[str]:
    """For each row of the run's trials, what became of it: one of OUTCOMES."""
    front = set() if run.feasible.empty else set(run.front()["trial"])
    outcomes = []
    for trial, state, refused in zip(
        run.trials["trial"], run.trials["state"], run.not_begun, strict=True
    ):
        if state == PRUNED:
            outcomes.append(NOT_BEGUN if refused else STOPPED)
        elif state == COMPLETE:
            outcomes.append(ON_FRONT if trial in front else OFF_FRONT)
        else:
            outcomes.append({FAIL: FAILED, PAUSED: ASIDE}.get(state, UNFINISHED))
    return outcomes


def time_spent(run: Run) -> TimeSpent:
    """Add up the seconds that trials spent in epochs. Trials that took no time count too."""
    outcomes, models = trial_outcomes(run), [str(model) for model in run.trials["model"]]
    took = np.nan_to_num(run.trials["seconds"].to_numpy(dtype=float))
    names = tuple(one for one in OUTCOMES if one in outcomes)
    totals: dict[str, float] = {}
    for model, seconds in zip(models, took, strict=True):
        totals[model] = totals.get(model, 0.0) + float(seconds)
    order = sorted(totals, key=lambda model: (-totals[model], model))
    rows = [order.index(model) for model in models]
    columns = [names.index(outcome) for outcome in outcomes]
    seconds = np.zeros((len(order), len(names)))
    trials = np.zeros((len(order), len(names)), dtype=np.intp)
    np.add.at(seconds, (rows, columns), took)
    np.add.at(trials, (rows, columns), 1)
    return TimeSpent(models=tuple(order), outcomes=names, seconds=seconds, trials=trials)


def time_cells(spent: TimeSpent) -> list[list[str]]:
    """A row for each model and one for all: the time and the number of trials of each outcome."""
    seconds, trials = spent.seconds, spent.trials
    rows = [
        [name, *(_cell(*pair) for pair in zip(times, counts, strict=True)), _cell(
            times.sum(), counts.sum())]
        for name, times, counts in zip(spent.models, seconds, trials, strict=True)
    ]  # fmt: skip
    if len(rows) > 1:
        whole = zip(seconds.sum(axis=0), trials.sum(axis=0), strict=True)
        rows.append(["all", *(_cell(*pair) for pair in whole), _cell(seconds.sum(), trials.sum())])
    return rows


def write_duration(seconds: float) -> str:
    """Write a time: 45 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _cell(seconds: float, trials: int) -> str:
    return f"{write_duration(float(seconds))} ({trials:,})" if trials else "–"
