"""Ray Tune's side of proposals: hands out the ledger's trials until the budget is used up.

Ray's own OptunaSearch is not used: it loses failed trials and tells stopped ones as finished.
"""

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from search.decisions.budget import BudgetMeter, SpaceExhaustedError, next_trial
from search.decisions.ledger import Ledger
from search.decisions.trial_record import TrialRecord
from search.execution.search_stopper import SearchStopper, unless_broken_off
from search.execution.tune_reports import with_number


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
    ) -> None:
        """most: trials at once, now. config_of: what a trial's process needs besides its number."""
        super().__init__()
        self._ledger = ledger
        self._meter = meter
        self._most = most
        self._config_of = config_of
        self._stopper = stopper
        self._live: set[str] = set()
        self._over = False
        self.exhausted = False

    @unless_broken_off
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The config of the next trial; None: not now; FINISHED: never again."""
        if len(self._live) >= self._most():
            return None
        record = None
        # Once it is over, only a trial whose process died comes back.
        if not self._over or self._ledger.has_interrupted:
            try:
                record = next_trial(self._ledger, spent=self._meter.spent)
            except SpaceExhaustedError:
                self.exhausted = True
        if record is None:
            self._over = True
            return Searcher.FINISHED if self._ledger.is_idle else None
        self._live.add(trial_id)
        return with_number(record.number, self._config_of(record))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """The callback tells the ledger: Ray gives the reason of an error to callbacks alone."""
        self._live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: Optuna's storage holds it all, and Ray's snapshot would lag behind."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as in save."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles the whole tuner to restore it, and we begin a new one instead."""
        return {}
