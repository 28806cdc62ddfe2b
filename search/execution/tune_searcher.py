"""Ray Tune's side of proposals: hands out the ledger's trials until the budget is used up.

Ray's own OptunaSearch is not used: it loses failed trials and tells stopped ones as complete.
"""

from collections.abc import Callable
from typing import Any, Literal

from ray.tune.search import Searcher

from search.cluster.retries import Retries
from search.decisions.budget import BudgetMeter, SpaceExhaustedError, Spent, next_trial
from search.decisions.ledger import Ledger
from search.decisions.trial_record import TrialRecord
from search.execution.search_stopper import SearchStopper, unless_broken_off
from search.execution.tune_reports import with_number

# Paused trials still go on after one of these has ended the proposals.
_PAUSED_GO_ON = ("trials", "exhausted")


class LedgerSearcher(Searcher):
    """Proposes the ledger's trials to Ray Tune."""

    def __init__(
        self,
        ledger: Ledger,
        meter: BudgetMeter,
        *,
        most: Callable[[], int],
        config_of: Callable[[TrialRecord], dict[str, Any]],
        stopper: SearchStopper,
        retries: Retries,
    ) -> None:
        """most: trials at once, now. config_of: a trial's config, without its number."""
        super().__init__()
        self._ledger = ledger
        self._meter = meter
        self._most = most
        self._config_of = config_of
        self._stopper = stopper
        self._retries = retries
        # Ray's id of a trial that has to run alone, while it runs.
        self._alone: str | None = None
        self._live: set[str] = set()
        self.ended_by: Spent | Literal["exhausted"] | None = None
        """Why no more trials begin; None: there is budget left."""

    @unless_broken_off
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The config of the next trial; None: none now; FINISHED: no more trials."""
        if len(self._live) >= self._most() or self._alone is not None:
            return None
        interrupted = self._ledger.next_interrupted
        alone = interrupted is not None and self._retries.needs_the_machine(interrupted)
        if alone and self._live:
            return None
        if interrupted is not None and not self._retries.may_begin(interrupted):
            return None
        record = None
        # Once the budget is used up, only trials that had begun go on: those whose process died,
        # and paused ones if there was only no new one left.
        if interrupted is not None or self.ended_by in (None, *_PAUSED_GO_ON):
            record = self._next()
        if record is None:
            return Searcher.FINISHED if self._ledger.is_idle else None
        self._live.add(trial_id)
        if alone:
            self._alone = trial_id
        return with_number(record.number, self._config_of(record))

    def _next(self) -> TrialRecord | None:
        try:
            record = next_trial(self._ledger)
            limit = self._meter.spent() or "trials"
        except SpaceExhaustedError:
            record, limit = None, "exhausted"
        if record is None and (self.ended_by is None or self._ledger.paused):
            self.ended_by = limit
        return record

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Free its slot. The callback tells the ledger: only it learns why a trial failed."""
        self._live.discard(trial_id)
        if trial_id == self._alone:
            self._alone = None

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: Optuna's storage holds everything, and Ray's snapshot would lag behind."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing, as in save."""

    def __getstate__(self) -> dict[str, Any]:
        """Save nothing. Ray pickles the tuner to restore it, but we begin a new one instead."""
        return {}
