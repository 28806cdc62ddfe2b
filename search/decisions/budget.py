"""When a search starts no more trials: its budget, its front that stands still, its failures."""

from collections.abc import Callable, Collection
from typing import Literal

from optuna.trial import TrialState

from analysis.pareto.front import Box
from search.decisions.ledger import Ledger
from search.study.study import Budget, PlateauSettings

Spent = Literal["trials", "hours", "worker_hours", "plateau", "failures"]


class BudgetMeter:
    """Says before every trial whether there is budget for it."""

    def __init__(
        self,
        budget: Budget,
        ledger: Ledger,
        *,
        seconds: Callable[[], float],
        log_columns: Collection[int],
    ) -> None:
        """seconds: that the search has taken so far, on the wall or in a simulation.

        log_columns: objectives that count in magnitudes where fronts are compared.
        """
        self._budget = budget
        self._ledger = ledger
        self._seconds = seconds
        self._log_columns = tuple(log_columns)
        self._checked_at = 0
        self._on_plateau = False

    def allows_another(self) -> bool:
        return self.spent() is None

    def spent(self) -> Spent | None:
        """The first limit that is reached; None: there is budget left."""
        budget, ledger = self._budget, self._ledger
        if ledger.should_abort():
            return "failures"
        if budget.trials is not None and ledger.num_begun >= budget.trials:
            return "trials"
        if budget.hours is not None and self._seconds() >= budget.hours * 3600:
            return "hours"
        if budget.worker_hours is not None and ledger.worker_seconds >= budget.worker_hours * 3600:
            return "worker_hours"
        if budget.plateau is not None and self._stands_still(budget.plateau):
            return "plateau"
        return None

    def _stands_still(self, plateau: PlateauSettings) -> bool:
        num_complete = self._ledger.pareto_tracker.counts[TrialState.COMPLETE]
        if num_complete != self._checked_at:
            self._checked_at = num_complete
            losses = self._ledger.pareto_tracker.complete_losses
            before = losses[: -plateau.trials]
            if len(before):
                box = Box.around(losses, self._log_columns)
                now = box.normalized_hypervolume(losses)
                self._on_plateau = now <= box.normalized_hypervolume(before) * (
                    1 + plateau.percent / 100
                )
        return self._on_plateau
