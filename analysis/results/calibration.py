"""What a search expected of its trials when they began, and what came out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from analysis.columns import COMPLETE, plain_row
from analysis.pareto.front import FloatArray, IntArray
from analysis.runs import EXPECTED_COLUMNS, Run

_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Expected and found metrics (0 to 1) of complete trials, in the order of their numbers."""

    trials: IntArray
    """(trials,): their numbers."""
    models: tuple[str, ...]
    low: FloatArray
    """(trials,): 10 % of what was expected is below this."""
    median: FloatArray
    high: FloatArray
    """(trials,): 10 % of what was expected is above this."""
    found: FloatArray
    """(trials,): their metrics in the end."""

    @property
    def within(self) -> npt.NDArray[np.bool_]:
        """(trials,): whether each ended within its 80 % interval, ends included."""
        return (self.low <= self.found) & (self.found <= self.high)

    @property
    def num_within(self) -> int:
        return int(self.within.sum())

    @property
    def num_above_median(self) -> int:
        return int((self.found > self.median).sum())

    @property
    def likely_within(self) -> tuple[int, int]:
        """How many of a well calibrated search's trials are within, with a probability of 95 %.

        As if the errors of its trials were independent (binomial distribution).
        """
        below = bdtr(np.arange(len(self.trials) + 1), len(self.trials), _SHARE)
        low, high = np.searchsorted(below, [0.025, 0.975])
        return int(low), int(high)

    def in_words(self) -> str:
        """For instance `41 of 50 trials (82 %) ended within their 80 % interval`."""
        number = len(self.trials)
        what = "trial" if number == 1 else "trials"
        share = f"{100 * self.num_within / number:.0f} %"
        whose = "its" if number == 1 else "their"
        return (
            f"{self.num_within:,} of {number:,} {what} ({share}) ended within {whose} 80 % interval"
        )


def calibration(run: Run) -> Calibration | None:
    """Of the complete trials of which something was expected; None where there are none."""
    names = ["expected_low", "expected_accuracy", "expected_high", run.metric]
    numbers = run.trials[names].to_numpy(dtype=float)
    rows = (run.trials["state"] == COMPLETE).to_numpy() & np.isfinite(numbers).all(axis=1)
    if not rows.any():
        return None
    low, median, high, found = numbers[rows].T
    return Calibration(
        trials=run.trials["trial"].to_numpy(dtype=np.intp)[rows],
        models=tuple(map(str, run.trials["model"][rows])),
        low=low,
        median=median,
        high=high,
        found=found,
    )


def calibration_record(found: Calibration | None) -> dict[str, int] | None:
    """A calibration's counts as plain data."""
    if found is None:
        return None
    return {
        "complete": len(found.trials),
        "within_80_percent": found.num_within,
        "above_median": found.num_above_median,
    }


def expectations(run: Run) -> list[dict[str, Any]]:
    """Of each trial of which something was expected: that, and what came out, as plain data.

    The run's metric, such as accuracy, is of complete trials alone; last_accuracy is after the last
    epoch so far. expected_accuracy is of that metric too, whatever its name.
    """
    last = dict(zip(run.last_epochs["trial"], run.last_epochs[run.metric], strict=True))
    known = run.trials.loc[run.trials["expected_accuracy"].notna()].copy()
    known[f"last_{run.metric}"] = [last.get(trial, np.nan) for trial in known["trial"]]
    came_out = ["state", "epochs_trained", run.metric, f"last_{run.metric}", "seconds"]
    return [plain_row(row) for _, row in known[["trial", *EXPECTED_COLUMNS, *came_out]].iterrows()]
