"""Passes Ray Tune's results to the ledger, each of them once.

Tune shows a result first to the scheduler, which has to decide, and then to callbacks. Callbacks
alone get a trial's last result, and all results while the search ends.
"""

from typing import Any

from ray.tune.experiment import Trial as RayTrial

from search.decisions.ledger import Ledger
from search.decisions.stopping import Decision
from trainables.learning.metrics import EpochMetrics
from trainables.trial import EPOCHS, RAN_ON

_NUMBER, _ITERATION = "number", "training_iteration"


def trial_number(trial: RayTrial) -> int:
    """Optuna's number of the trial that Ray runs."""
    return trial.config[_NUMBER]


def with_number(number: int, config: dict[str, Any]) -> dict[str, Any]:
    """A trial's config, with its number in it."""
    return {_NUMBER: number, **config}


class TuneReports:
    """Passes results on, and remembers the decision about each trial's last result."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # By trial: the iteration of its last result, and the decision.
        self._last: dict[str, tuple[int, Decision]] = {}

    def report(self, trial: RayTrial, result: dict[str, Any]) -> Decision:
        """Pass a new result to the ledger; returns the decision about the trial."""
        iteration = result[_ITERATION]
        known = self._last.get(trial.trial_id)
        if known is not None and known[0] == iteration:
            return known[1]
        epochs = [EpochMetrics.from_dict(metrics) for metrics in result[EPOCHS]]
        decision = self._ledger.report(trial_number(trial), epochs, ran_on=result[RAN_ON])
        self._last[trial.trial_id] = (iteration, decision)
        return decision

    def forget(self, trial: RayTrial) -> None:
        """Forget a trial that is over."""
        self._last.pop(trial.trial_id, None)
