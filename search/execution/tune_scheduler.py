"""Ray Tune's side of early stopping. The ledger decides; this class only translates."""

from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.decisions.stopping import Pause, Stop
from search.execution.search_stopper import SearchStopper, unless_broken_off
from search.execution.tune_reports import TuneReports
from trainables.trial import FAILURE


class LedgerScheduler(FIFOScheduler):
    """Starts trials in the order in which they come. Stops a trial if the ledger does.

    A paused trial is stopped too, since only that frees its worker. It goes on as a new one of
    Ray's, with the same number.
    """

    def __init__(self, reports: TuneReports, stopper: SearchStopper) -> None:
        super().__init__()
        self._stopper = stopper
        self._reports = reports

    def on_trial_result(
        self, tune_controller: TuneController, trial: RayTrial, result: dict[str, Any]
    ) -> str:
        """Decide on a result. Ray calls only the callback for a trial's last one."""
        if result[FAILURE] is not None:
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if self._stops(trial, result) else TrialScheduler.CONTINUE

    @unless_broken_off
    def _stops(self, trial: RayTrial, result: dict[str, Any]) -> bool:
        return isinstance(self._reports.report(trial, result), Stop | Pause)

    def __getstate__(self) -> dict[str, Any]:
        """Save nothing. Ray pickles the tuner to restore it, but we begin a new one instead."""
        return {}
