"""Ray Tune's side of early stopping: the ledger decides, this class only translates."""

from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.decisions.ledger import Ledger
from search.execution.search_stopper import SearchStopper, unless_broken_off
from search.execution.tune_searcher import trial_number
from trainables.training import EpochMetrics
from trainables.trial import EPOCHS, FAILURE, RAN_ON


class LedgerScheduler(FIFOScheduler):
    """Starts trials in the order in which they come, and stops those that lose at a rung."""

    def __init__(self, ledger: Ledger, stopper: SearchStopper) -> None:
        super().__init__()
        self._stopper = stopper
        self._ledger = ledger

    def on_trial_result(
        self, tune_controller: TuneController, trial: RayTrial, result: dict[str, Any]
    ) -> str:
        """Not called for a trial's last result: that one is the recorder's."""
        if result[FAILURE] is not None:
            return TrialScheduler.CONTINUE
        stops = self._stops(trial_number(trial), result[EPOCHS], result[RAN_ON])
        return TrialScheduler.STOP if stops else TrialScheduler.CONTINUE

    @unless_broken_off
    def _stops(self, number: int, epochs: list[dict[str, Any]], ran_on: str) -> bool:
        reported = [EpochMetrics(**metrics) for metrics in epochs]
        return not self._ledger.report(number, reported, ran_on=ran_on)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles the whole tuner to restore it, and we begin a new one instead."""
        return {}
