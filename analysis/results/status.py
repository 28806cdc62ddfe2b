"""How far a run has come, for people and for programs."""

from typing import Any

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from analysis.columns import (
    COMPLETE,
    FAIL,
    PAUSED,
    PRUNED,
    RUNNING,
    in_a_sentence,
    plain,
    plain_row,
    write_number,
    write_percent,
)
from analysis.results.calibration import calibration, calibration_record, expectations
from analysis.results.front_table import front_table
from analysis.results.spending import (
    Spending,
    run_spending,
    spending_notes,
    spending_record,
    write_hours,
    write_money,
)
from analysis.results.stop_reasons import stop_reasons
from analysis.runs import Run

_MAX_FAILURES = 3


def run_status(run: Run, *, searched: bool, location: str | None = None) -> dict[str, Any]:
    """Counts, times and failures of a run, as plain data.

    searched: whether a search is at work in it. If not, trials that are RUNNING are unfinished.
    location: its address, where this is a copy. In the result, seconds_trained, gpu_hours and
    core_hours are of all trials; money is at the study's prices, None where it names none; stopped
    counts trials by the kind of reason for which they were stopped early, failures by their error;
    metric is the study's, best_METRIC the highest, guessing what the best model gets that looks at
    no image; constraints says which bounds on metrics finished trials break, None if they keep all;
    expectations has what was expected of each trial when it began and what came out, calibration
    how many complete trials ended as expected, None where nothing was expected.
    """
    return _status(run, run_spending(run), searched=searched, location=location)


def _status(
    run: Run, spending: Spending, *, searched: bool, location: str | None
) -> dict[str, Any]:
    counts = run.counts()
    best = _best(run)
    interval = run.interval(best)
    failed = run.trials.loc[run.trials["state"] == FAIL, "error"].fillna("no reason recorded")
    running = run.trials.loc[run.trials["state"] == RUNNING]
    paused = run.trials.loc[run.trials["state"] == PAUSED]
    return {
        "name": run.name,
        "folder": location or str(run.path),
        "searched": searched,
        "budget": run.study.get("budget"),
        "trials": len(run.trials),
        "complete": counts[COMPLETE],
        "pruned": counts[PRUNED],
        "not_begun": run.num_not_begun,
        "failed": counts[FAIL],
        "running": counts[RUNNING],
        "paused": counts[PAUSED],
        "on_front": 0 if run.feasible.empty else len(run.front()),
        "constraints": run.broken_constraints(),
        "metric": run.metric,
        f"best_{run.metric}": best,
        f"best_{run.metric}_interval": interval and {"low": interval.low, "high": interval.high},
        "guessing": run.guessing,
        "seconds_trained": _total(run.trials, "seconds"),
        **spending_record(spending),
        "running_trials": [_running_row(run, plain_row(row)) for _, row in running.iterrows()],
        "paused_trials": [
            _running_row(run, plain_row(row)) | {"reason": plain(row["stop_reason"])}
            for _, row in paused.iterrows()
        ],
        "expectations": expectations(run),
        "calibration": calibration_record(calibration(run)),
        "stopped": {one.kind: one.num_trials for one in stop_reasons(run)},
        "failures": {str(reason): int(n) for reason, n in failed.value_counts(sort=True).items()},
    }


def status_table(run: Run, *, searched: bool, location: str | None = None) -> Table:
    """`run_status` as a table that a person can read."""
    spending = run_spending(run)
    status = _status(run, spending, searched=searched, location=location)
    table = Table(box=None, show_header=False, title=status["folder"], title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    budget = (status["budget"] or {}).get("trials")
    of = f" of {budget}" if budget else ""
    running = "running" if searched else "unfinished"
    message = run.counts_in_words(running=running)
    begun = status["trials"] - status["not_begun"]
    table.add_row("trials", f"{begun}{of}" + (f" ({message})" if message else ""))
    if not run.finished.empty:
        table.add_row("front", f"{status['on_front']} trial{'s' * (status['on_front'] != 1)}")
        table.add_row(escape(f"best {in_a_sentence(run.metric)}"), write_best(run))
    if status["constraints"]:
        table.add_row("constraints", escape(status["constraints"]))
    hours, money = write_hours(spending), write_money(spending)
    minutes = write_number(status["seconds_trained"] / 60)
    table.add_row("time in trials", f"{minutes} min" + (f", {hours}" if hours else ""))
    if money:
        table.add_row("cost", money)
    for note in spending_notes(spending):
        table.add_row("", note)
    for trial in status["running_trials"]:
        message = f"{trial['model']}, {trial['epochs_trained']} of {trial['epochs']} epochs"
        if trial[run.metric] is not None:
            message += f", {write_percent(trial[run.metric])} % so far"
        table.add_row(f"{running} {trial['trial']}", message)
    if (status["running"] or status["paused"]) and not searched:
        table.add_row("to resume", "flopwise search STUDY --resume")
    for reason, number in status["stopped"].items():
        table.add_row(f"stopped {number} x", escape(reason))
    for reason, number in list(status["failures"].items())[:_MAX_FAILURES]:
        table.add_row(f"failed {number} x", escape(reason))
    return table


def watch_view(run: Run, *, searched: bool, location: str | None = None) -> Group:
    """How far a run has come, and its front so far, for a terminal that is redrawn."""
    parts: list[RenderableType] = [status_table(run, searched=searched, location=location)]
    if not run.feasible.empty:
        parts.append(front_table(run))
    return Group(*parts)


def write_best(run: Run) -> str:
    """The highest metric, for instance: 95.0 % (92.6 to 96.7, 95 % interval)."""
    best = _best(run)
    interval = run.interval(best)
    over = f" ({interval.write_ends()}, 95 % interval)" if interval else ""
    return f"{write_percent(best)} %{over}"


def _best(run: Run) -> float | None:
    return None if run.finished.empty else float(run.finished[run.metric].to_numpy().max())


def _total(table: pd.DataFrame, column: str) -> float:
    return float(np.nansum(table[column].to_numpy(dtype=float)))


def _running_row(run: Run, row: dict[str, Any]) -> dict[str, Any]:
    curve = run.epochs.loc[run.epochs["trial"] == row["trial"]].sort_values("epoch")
    return {
        "trial": row["trial"],
        "model": row["model"],
        "epochs": row["epochs"],
        "epochs_trained": len(curve),
        run.metric: None if curve.empty else plain(curve[run.metric].to_numpy()[-1]),
    }
