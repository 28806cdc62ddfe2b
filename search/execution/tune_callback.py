"""Ray Tune's side of a search's progress: reports the results of trials to the ledger."""

import errno
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from optuna.trial import TrialState
from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.result import SHOULD_CHECKPOINT

from search.cluster.node_health import NodeHealth
from search.cluster.nodes import alive_nodes
from search.cluster.retries import Retries
from search.cluster.worker_failures import (
    error_text,
    is_lost_machine,
    is_unsaved,
    node_of,
    reason,
)
from search.decisions.ledger import Ledger
from search.decisions.stopping import Pause
from search.execution.search_stopper import SearchStopper, unless_broken_off
from search.execution.tune_reports import TuneReports, trial_number
from search.storage.run_folder import RunFolder
from trainables.trial import FAILURE, NODE

_log = logging.getLogger("flopwise")


class LedgerCallback(Callback):
    """Passes Ray's reports to the ledger, and manages checkpoints in the run folder."""

    def __init__(
        self,
        ledger: Ledger,
        reports: TuneReports,
        folder: RunFolder,
        *,
        stopper: SearchStopper,
        health: NodeHealth,
        retries: Retries,
        after_step: Callable[[], None],
    ) -> None:
        """after_step: called often, even if nothing happened."""
        self._health = health
        self._retries = retries
        self.node_of: dict[int, str] = {}
        """Ray's id of the node where each trial last ended an epoch."""
        self._ledger = ledger
        self._reports = reports
        self._folder = folder
        self._after_step = after_step
        self._stopper = stopper
        self._failures: dict[int, str] = {}
        self._num_epochs: dict[int, int] = {}
        self._checkpoints: dict[int, str] = {}

    @unless_broken_off
    def on_trial_result(
        self,
        iteration: int,
        trials: list[RayTrial],
        trial: RayTrial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        number = trial_number(trial)
        decision = self._reports.report(trial, result)
        if isinstance(decision, Pause):
            # Ray saves the trial before it executes the scheduler's decision to stop it.
            result[SHOULD_CHECKPOINT] = True
        num_epochs = len(self._ledger.records[number].epochs)
        if num_epochs > self._num_epochs.get(number, 0):
            self._num_epochs[number] = num_epochs
            self._retries.worked(number)
            _tell_left_out(self._health.worked(result[NODE]))
            self.node_of[number] = result[NODE]
        if result[FAILURE] is not None:
            self._failures[number] = result[FAILURE]

    @unless_broken_off
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
        self._checkpoints[number] = self._folder.checkpoints.name(checkpoint.path)
        if before is not None:
            self._folder.checkpoints.remove(before)

    @unless_broken_off
    def on_trial_complete(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any
    ) -> None:
        number = trial_number(trial)
        self._reports.forget(trial)
        record = self._ledger.records[number]
        dropped = []
        if record.state == TrialState.PRUNED:
            pass  # told when the scheduler stopped it
        elif number in self._failures:
            dropped = self._ledger.fail(number, self._failures[number])
        elif record.pausing is not None:
            checkpoint = self._checkpoints.get(number)
            self._ledger.pause(number, record.pausing, checkpoint=checkpoint)
        else:
            dropped = self._ledger.complete(number, checkpoint=self._checkpoints.get(number))
        self._folder.checkpoints.keep(record)
        for other in dropped:
            if other is not record:
                self._folder.checkpoints.keep(other)

    @unless_broken_off
    def on_trial_error(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any
    ) -> None:
        """If a trial's process died, begin the trial again, unless this happened too often."""
        number = trial_number(trial)
        record = self._ledger.records[number]
        text = error_text(trial)
        # Otherwise Ray would unpickle a file in the run folder, whoever wrote it.
        trial.run_metadata.pickled_error_filename = None
        self._stopper.check_ray()
        if os.strerror(errno.ENOSPC) in text:
            self._stopper.break_off(f"can't write {self._folder.path}: {os.strerror(errno.ENOSPC)}")
        elif self._folder.sync is not None and is_unsaved(text):
            where = self._folder.sync.remote.address
            self._stopper.break_off(
                f"can't write {where}: {reason(text).removeprefix('OSError: ')}"
            )
        if self._stopper.error is not None:
            return
        # Ray's own recovery is not used: it fails a trial if its warm process died before it.
        should_continue = self._retries.should_continue(number, text)
        if self._retries.was_killed(text) and not is_lost_machine(text):
            node = node_of(text)
            if node is not None:
                _tell_left_out(self._health.died(node, number))
        if record.state == TrialState.PRUNED:
            pass  # told when the scheduler stopped it
        elif should_continue:
            self._ledger.put_back(number)
            return
        else:
            self._ledger.fail(number, reason(text))
        self._folder.checkpoints.keep(record)

    def __getstate__(self) -> dict[str, Any]:
        """Save nothing, as in LedgerSearcher."""
        return {}

    @unless_broken_off
    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        self._stopper.check_ray()
        self._after_step()


def _tell_left_out(keys: Iterable[str]) -> None:
    for key in keys:
        address = next((node.address for node in alive_nodes() if node.key == key), key)
        _log.warning("%s is left out: its trials keep dying, but other nodes work", address)
