"""Chooses one trial of a run by a rule, and gives the reason in one sentence."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import (
    FAIL,
    PAUSED,
    PRUNED,
    RUNNING,
    amount,
    heading,
    in_a_sentence,
    is_missing,
    plain_row,
    write_percent,
)
from analysis.pareto.front import knee
from analysis.runs import Run, describe_nearest, in_words, run_recipe, worst_excess
from spaces.columns import is_recall
from spaces.constraints import Constraint, read_constraint, split_constraints
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.yaml_files import cut, did_you_mean, shorten

_DROP = re.compile(r"drop\s*<=\s*(?P<points>[^\s%]+)\s*(?P<percent>%?)")
RULES = ("knee", "most-accurate", "cheapest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The trial that a rule picks."""

    trial: int
    row: dict[str, Any]
    """Its row of the run's trials as plain values; None for missing cells."""
    reason: str
    """Why the rule picks it, in one sentence."""

    @property
    def recipe(self) -> Recipe:
        """The recipe that this trial trained."""
        return run_recipe(self.row)


def choose(run: Run, rule: str) -> Selection:
    """Pick one trial of a run.

    rule: one of
      knee           where the front bends most, with costs on a log scale
      most-accurate  the highest metric; among equals the cheapest
      cheapest       the lowest cost; among equals the most accurate
      constraints    such as `accuracy>=0.9` or `accuracy>=0.9, size_mb<=20` (`,` or `and`), on
                     any metric and any cost column. Of the finished trials that keep them all: the
                     cheapest if a metric has a lower bound, else the most accurate
      drop           such as `drop<=0.01` or `drop<=1%`: the cheapest finished trial whose metric is
                     at most this far below the highest
      a number       that trial, if it is finished, on the front or not
    The metric is the study's objective, or accuracy if it has only costs. The cost is the study's
    first objective that is minimised.

    Raises UserError where the rule can't be read, or no trial fits it.
    """
    rule = rule.strip()
    number = re.fullmatch(r"(?:trial-?)?(\d+)", rule)  # exported files are called trial-N
    if number:
        return _numbered(run, int(number[1]))
    finished = run.require_feasible()
    if rule == "knee":
        row = finished.iloc[_knee_position(run)]
        if len(run.front()) < 3:
            return _choice(run, row, f"too few points for a knee; took trial {row['trial']}")
        metric = in_a_sentence(run.metric)
        why = f"the knee of the front, its best trade-off between {metric} and cost"
        return _choice(run, row, why)
    if rule == "most-accurate":
        return _choice(
            run, _best(run, finished, "most-accurate"), f"the highest {in_a_sentence(run.metric)}"
        )
    if rule == "cheapest":
        cost = heading(run.costs[0])
        return _choice(run, _best(run, finished, "cheapest"), f"the lowest cost in {cost}")
    drop = _DROP.fullmatch(rule)
    if drop:
        return _allowed_drop(run, finished, drop)
    if rule.startswith("drop"):
        raise UserError(f"{cut(rule)}: write a drop as drop<=1% or drop<=0.01")
    return _constrained(run, finished, _read_constraints(rule))


def _knee_position(run: Run) -> int:
    return knee(run.losses(), log_columns=run.objectives.log_columns)


def _allowed_drop(run: Run, finished: pd.DataFrame, rule: re.Match[str]) -> Selection:
    try:
        allowed = float(rule["points"]) / 100 if rule["percent"] else float(rule["points"])
    except ValueError:
        raise UserError(f"{rule[0]}: {rule['points']} is not a number") from None
    if not 0 <= allowed < 1:
        raise UserError(f"{rule[0]}: use a fraction such as drop<=0.01, or drop<=1%")
    best = float(finished[run.metric].to_numpy(dtype=float).max())
    # Allows for the rounding of the subtraction.
    near = finished.loc[finished[run.metric] >= best - allowed - 1e-9]
    metric = in_a_sentence(run.metric)
    message = f"{100 * allowed:g} points of the highest {metric}, {write_percent(best)} %"
    among = f"the cheapest of the {len(near)} finished trials within {message}"
    if len(near) == 1:
        among = f"the only finished trial within {message}"
    return _choice(run, _best(run, near, "cheapest"), among)


def _best(run: Run, rows: pd.DataFrame, rule: str) -> pd.Series:
    by = {run.metric: False} | dict.fromkeys(run.costs, True)
    if rule == "cheapest":
        by = dict.fromkeys(run.costs, True) | {run.metric: False}
    by["trial"] = True
    return rows.sort_values(list(by), ascending=list(by.values()), kind="stable").iloc[0]


def _constrained(run: Run, finished: pd.DataFrame, constraints: list[Constraint]) -> Selection:
    for constraint in constraints:
        column = constraint.column
        if column in finished and np.isfinite(finished[column].to_numpy(dtype=float)).any():
            continue
        way_out = ""
        if is_recall(column):
            way_out = "; only recalls that the study names as objective or constraint are recorded"
        raise UserError(f"{constraint}: {run.path} has no {column} measured{way_out}")
    holds = finished.loc[worst_excess(finished, constraints) <= 0]
    wanted = in_words(constraints)
    if holds.empty:
        raise UserError(
            f"none of {len(finished)} finished trials has {wanted};"
            f" {describe_nearest(finished, constraints)}"
        )
    enough = any(one.is_of_a_metric and one.sign.startswith(">") for one in constraints)
    rule = "cheapest" if enough else "most-accurate"
    among = f"the {rule.replace('-', ' ')} of the {len(holds)} finished trials with {wanted}"
    if len(holds) == 1:
        among = f"the only finished trial with {wanted}"
    return _choice(run, _best(run, holds, rule), among)


def _read_constraints(rule: str) -> list[Constraint]:
    constraints = []
    for part in split_constraints(rule):
        constraint = read_constraint(part)
        if constraint is None:
            raise UserError(
                f"{shorten(part)} is not a rule: use {', '.join(RULES)}, drop<=0.01, a constraint"
                f" such as accuracy>=0.9, or a trial's number{did_you_mean(part, RULES)}"
            )
        constraints.append(constraint)
    return constraints


def _numbered(run: Run, number: int) -> Selection:
    numbers = [int(trial) for trial in run.trials["trial"]]
    if number not in numbers:
        known = f"its trials are {numbers[0]} to {numbers[-1]}" if numbers else "it has none yet"
        raise UserError(f"trial {number}: not in {run.path}; {known}")
    row = run.trials.iloc[numbers.index(number)]
    if number in set(run.finished["trial"]):
        if number not in set(run.feasible["trial"]):
            broken = in_words(run.objectives.metric_constraints)
            return _choice(run, row, f"asked for by its number; it breaks {broken}")
        on_front = number in set(run.front()["trial"])
        where = "it is on the front" if on_front else "others dominate it"
        return _choice(run, row, f"asked for by its number; {where}")
    error = "" if is_missing(row["error"]) else f": {str(row['error']).strip().splitlines()[0]}"
    why = {
        FAIL: f"it failed{error}",
        PRUNED: "it was stopped early",
        RUNNING: "it is unfinished; its search still runs, or goes on with --resume",
        PAUSED: "it is paused; its search still runs, or goes on with --resume",
    }.get(str(row["state"]), "an objective was not measured")
    raise UserError(f"trial {number} has no result: {why}")


def _choice(run: Run, row: pd.Series, why: str) -> Selection:
    numbers = " at ".join(amount(column, row[column]) for column in (run.metric, run.costs[0]))
    cells = plain_row(row)
    trial = int(cells["trial"])
    return Selection(trial=trial, row=cells, reason=f"Trial {trial} ({numbers}): {why}.")
