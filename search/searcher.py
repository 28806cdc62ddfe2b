"""Ray Tune's side of a search: hands out the ledger's trials and tells it what became of them.

Everything that is decided is decided in the ledger; these classes only translate. Ray's own
OptunaSearch is not used: it loses failed trials and tells stopped ones as finished.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from search.ledger import Ledger, SpaceExhaustedError
from search.run_folder import RunFolder
from search.trial_record import TrialRecord
from trainables.training import EpochMetrics
from trainables.trial import EPOCHS, FAILURE

_NUMBER = "number"


def trial_number(trial: RayTrial) -> int:
    """Optuna's number of the trial that Ray runs."""
    return trial.config[_NUMBER]


class LedgerSearcher(Searcher):
    """Proposes the ledger's trials to Ray Tune until the budget is used up."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        may_begin: Callable[[], bool],
        config_of: Callable[[TrialRecord], dict[str, Any]],
    ) -> None:
        """config_of: what the trainable needs of a trial besides its number."""
        super().__init__()
        self._ledger = ledger
        self._may_begin = may_begin
        self._config_of = config_of
        self.exhausted = False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            record = self._ledger.ask(may_begin=self._may_begin)
        except SpaceExhaustedError:
            self.exhausted = True
            return Searcher.FINISHED
        if record is None:
            return Searcher.FINISHED
        return {_NUMBER: record.number, **self._config_of(record)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The recorder tells the ledger: Ray gives the reason of an error to callbacks alone."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: Optuna's storage holds it all, and Ray's snapshot would lag behind."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as in save."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles the whole tuner to restore it, and we begin a new one instead."""
        return {}


class Recorder(Callback):
    """Takes what Ray reports into the ledger, and the ledger into the run folder."""

    def __init__(
        self, ledger: Ledger, folder: RunFolder, *, after_step: Callable[[], None]
    ) -> None:
        """after_step: called often, also when nothing happened; it decides what to do when."""
        self._ledger = ledger
        self._folder = folder
        self._after_step = after_step
        self._failures: dict[int, str] = {}
        self._checkpoints: dict[int, str] = {}

    def on_trial_result(
        self,
        iteration: int,
        trials: list[RayTrial],
        trial: RayTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        number = trial_number(trial)
        # The scheduler has seen all results but a trial's last one.
        self._ledger.report(number, [EpochMetrics(**metrics) for metrics in result[EPOCHS]])
        if result[FAILURE] is not None:
            self._failures[number] = result[FAILURE]

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[RayTrial],
        trial: RayTrial,
        checkpoint: Any,
        **info: Any,
    ) -> None:
        number = trial_number(trial)
        before = self._checkpoints.get(number)
        path = Path(checkpoint.path).resolve()
        self._checkpoints[number] = str(path.relative_to(self._folder.path.resolve()))
        if before is not None:
            shutil.rmtree(self._folder.path / before, ignore_errors=True)

    def on_trial_complete(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any
    ) -> None:
        number = trial_number(trial)
        before = self._ledger.front()
        if self._ledger.records[number].state == TrialState.PRUNED:
            pass  # told when the scheduler stopped it
        elif number in self._failures:
            self._ledger.fail(number, self._failures[number])
        else:
            self._ledger.complete(number, checkpoint=self._checkpoints.get(number))
        overtaken = [record for record in before if record.checkpoint is None]
        for record in (*overtaken, self._ledger.records[number]):
            self._folder.keep_checkpoint(record)

    def on_trial_error(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any
    ) -> None:
        number = trial_number(trial)
        self._ledger.fail(number, _reason(trial))
        self._folder.keep_checkpoint(self._ledger.records[number])

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as in LedgerSearcher."""
        return {}

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        self._after_step()


class StopOnRequest(Stopper):
    """Ends the whole search, its running trials left to be resumed, once asked to."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.requested


def _reason(trial: RayTrial) -> str:
    """One line of what Ray wrote down about the end of a trial's process.

    Its text, not its pickle: that is beside it for `Trial.get_pickled_error`, which looks for it in
    the run folder before it is there.
    """
    text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "Ray gave no reason"
    if "low on memory" in text:
        return "out of memory: Ray ended the trial's process before the machine ran out"
    if "creation task" not in text and ("ActorDiedError" in text or "actor died" in text):
        return "the trial's process died: killed from outside, or by the system for its memory"
    return lines[-1]
