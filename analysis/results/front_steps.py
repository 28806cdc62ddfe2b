"""Neighbours on the front, compared in a sentence each: what more accuracy costs."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.columns import heading, is_missing, plain_row, write_percent
from analysis.results.confirmation import Confirmation, accuracies_on_test_split
from analysis.runs import Run
from spaces.columns import LATENCY
from spaces.intervals import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontStep:
    """From one trial of the front to the next more expensive one."""

    trial: int
    next_trial: int
    gain: float
    """The metric of the next minus that of the trial, a fraction of 1."""
    factors: Mapping[str, float]
    """Cost column -> cost of the next / cost of the trial: the run's costs, and latency."""
    intervals: tuple[Interval, Interval] | None
    """95 % intervals of the two accuracies; None where the number of images is unknown."""
    on_test: bool
    """Whether the accuracies are those of `confirm` on the test split, not the validation's."""


def front_steps(run: Run, confirmation: Confirmation | None = None) -> list[FrontStep]:
    """Compare each trial of the front with the next, the cheapest first.

    Of trials with equal objectives only the first counts. Where both were confirmed, their test
    accuracies are compared. Raises UserError where no trial is finished.
    """
    front = run.front().drop_duplicates(list(run.objectives))
    rows = [plain_row(row) for _, row in front.iterrows()]
    tested = accuracies_on_test_split(confirmation)
    steps = []
    for one, other in itertools.pairwise(rows):
        on_test = one["trial"] in tested and other["trial"] in tested
        first, second = (
            tested[row["trial"]] if on_test else run.interval(row[run.metric])
            for row in (one, other)
        )
        intervals = (first, second) if first and second else None
        before, after = (
            (one[run.metric], other[run.metric])
            if intervals is None
            else (intervals[0].mean, intervals[1].mean)
        )
        steps.append(
            FrontStep(
                trial=one["trial"],
                next_trial=other["trial"],
                gain=after - before,
                factors={
                    name: other[name] / one[name]
                    for name in dict.fromkeys((*run.costs, LATENCY))
                    if one[name] and not is_missing(other[name])
                },
                intervals=intervals,
                on_test=on_test,
            )
        )
    return steps


def describe_step(step: FrontStep) -> str:
    """Tell a step in one clause.

    For instance: 9.0 points more for 2.8 x the effective GFLOPs; the 95 % intervals do not overlap
    (78.3 to 85.4 %, 88.1 to 93.4 %).
    """
    points = 100 * step.gain
    more = f"{abs(points):.1f} points {'more' if points >= 0 else 'less'}"
    where = " on the test split" if step.on_test else ""
    costs = " and ".join(_factor(name, factor) for name, factor in step.factors.items())
    message = f"{more}{where}" + (f" for {costs}" if costs else "")
    if step.intervals is None:
        return message
    low, high = sorted(step.intervals, key=lambda interval: interval.mean)
    overlap = low.high >= high.low
    written = ", ".join(
        f"{write_percent(one.low)} to {write_percent(one.high)} %" for one in step.intervals
    )
    verdict = "overlap" if overlap else "do not overlap"
    return f"{message}; the 95 % intervals {verdict} ({written})"


def _factor(column: str, factor: float) -> str:
    name = heading(column).partition(" (")[0]
    if 1 < factor < 1.1:
        return f"{100 * (factor - 1):.2g} % more {name}"
    return f"{factor:,.0f} x the {name}" if factor >= 10 else f"{factor:.2g} x the {name}"
