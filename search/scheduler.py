"""Ray Tune's side of early stopping: the ledger decides, this class only translates."""

from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.ledger import Ledger
from search.searcher import trial_number
from trainables.training import EpochMetrics
from trainables.trial import EPOCHS, FAILURE


class LedgerScheduler(FIFOScheduler):
    """Starts trials in the order in which they come, and stops those that lose at a rung."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def on_trial_result(
        self, tune_controller: TuneController, trial: RayTrial, result: dict[str, Any]
    ) -> str:
        """Not called for a trial's last result: that one is the recorder's."""
        if result[FAILURE] is not None:
            return TrialScheduler.CONTINUE
        epochs = [EpochMetrics(**metrics) for metrics in result[EPOCHS]]
        goes_on = self._ledger.report(trial_number(trial), epochs)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles the whole tuner to restore it, and we begin a new one instead."""
        return {}
