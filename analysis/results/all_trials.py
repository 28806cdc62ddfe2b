"""Every trial of a run as rows that the page sorts."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from analysis.columns import describe_recipe, heading, is_missing, plain
from analysis.results.time_spent import trial_outcomes
from analysis.runs import Run
from spaces.columns import LATENCY


def trial_list(run: Run) -> dict[str, list[Any]]:
    """Headings, and a row of plain values for each trial, in the order of their numbers.

    Columns: trial, outcome, the metric (%; of trials that did not finish, the last one), the run's
    costs and latency where it is known, epochs, seconds, recipe, and the reason why it was stopped
    or failed.
    """
    trials = run.trials
    costs = list(run.costs)
    if LATENCY not in costs and any(not is_missing(value) for value in trials[LATENCY]):
        costs.append(LATENCY)
    last = run.last_epochs
    reached = dict(zip(last["trial"].astype(int), last[run.metric], strict=True))
    accuracies = [
        reached.get(trial) if is_missing(accuracy) else accuracy
        for trial, accuracy in zip(trials["trial"], trials[run.metric], strict=True)
    ]
    stopped = trials["stop_reason"] if "stop_reason" in trials else [None] * len(trials)
    reasons = [
        stop if is_missing(error) else error
        for error, stop in zip(trials["error"], stopped, strict=True)
    ]
    columns: dict[str, Iterable[Any]] = {
        "trial": trials["trial"],
        "outcome": trial_outcomes(run),
        heading(run.metric): _numbers(accuracies, 100),
        **{heading(name): _numbers(trials[name]) for name in costs},
        "epochs": trials["epochs_trained"],
        "seconds": _numbers(trials["seconds"]),
        "recipe": [describe_recipe(row) for row in trials.to_dict("records")],
        "why it ended": [_first_line(reason) for reason in reasons],
    }
    rows = zip(*([_cell(value) for value in values] for values in columns.values()), strict=True)
    return {"columns": list(columns), "rows": [list(row) for row in rows]}


def _numbers(values: Iterable[Any], factor: int = 1) -> list[float]:
    return [float(f"{factor * value:.4g}") for value in np.array(list(values), dtype=float)]


def _cell(value: Any) -> Any:
    value = plain(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _first_line(reason: Any) -> str | None:
    text = plain(reason)
    return str(text).strip().splitlines()[0] if text else None
