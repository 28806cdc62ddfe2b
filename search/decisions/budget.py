"""When a search starts no more trials: its budget, a plateau of the front, failures."""

from typing import Annotated, Literal, Self

from optuna.trial import TrialState
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from analysis.pareto.front import Box
from search.decisions.ledger import Ledger
from search.decisions.trial_record import TrialRecord

Spent = Literal["trials", "hours", "worker_hours", "plateau", "failures"]

# If this many proposals in a row can't begin, the space is used up, or its constraints exclude all
# of it.
_MAX_REPEATS = 200
_CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SpaceExhaustedError(Exception):
    """The sampler only proposes recipes that were tried already, or that may not begin."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class PlateauSettings:
    """If the front stops growing, the search ends."""

    percent: Annotated[float, Field(gt=0)]
    """The search goes on while the front's hypervolume grows by more than this many percent."""
    trials: Annotated[int, Field(ge=1)]
    """Growth is measured over this many complete trials."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Budget:
    """When to stop starting trials. Trials that run then are finished. None: no limit."""

    trials: Annotated[int, Field(ge=1)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None
    """Wall time, over all sessions of the search."""
    worker_hours: Annotated[float, Field(gt=0)] | None = None
    """Time spent in trials, over all workers."""
    plateau: PlateauSettings | None = None

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if all(limit is None for limit in (self.trials, self.hours, self.worker_hours)):
            raise ValueError("give trials, hours or worker_hours, or the search might never end")
        return self


def next_trial(ledger: Ledger) -> TrialRecord | None:
    """The next trial to run; None when the budget, of a `BudgetMeter`, is used up.

    Skips proposals that are over already, for example because their recipe has a result. Raises
    SpaceExhaustedError after 200 of these in a row, if no paused trial is to go on. An interrupted
    trial needs no budget, and a paused one none of a budget of trials. So a later call may return
    one after an earlier call returned None, or raised: a trial was paused in between.
    """
    if ledger.next_interrupted is not None:
        return ledger.propose()
    while True:
        limit = ledger.spent()
        if limit is None and ledger.num_repeats < _MAX_REPEATS:
            record = ledger.propose()
            if record is not None:
                return record
        elif limit in (None, "trials"):
            record = ledger.resume_paused(may_begin=False)
            if record is None and limit is None:
                raise SpaceExhaustedError
            return record
        else:
            return None


class BudgetMeter:
    """Checks before every trial whether there is budget for it."""

    def __init__(self, budget: Budget, ledger: Ledger) -> None:
        self._budget = budget
        self._ledger = ledger
        self._checked_at = 0
        self._on_plateau = False
        ledger.limit_by(self.spent)

    def spent(self) -> Spent | None:
        """The first limit that is reached; None: there is budget left.

        Trials come last: if only they are used up, paused trials may go on.
        """
        budget, ledger = self._budget, self._ledger
        if ledger.should_abort():
            return "failures"
        if budget.hours is not None and ledger.seconds_searched >= budget.hours * 3600:
            return "hours"
        if budget.worker_hours is not None and ledger.worker_seconds >= budget.worker_hours * 3600:
            return "worker_hours"
        if budget.plateau is not None and self._stands_still(budget.plateau):
            return "plateau"
        if budget.trials is not None and ledger.num_begun >= budget.trials:
            return "trials"
        return None

    def _stands_still(self, plateau: PlateauSettings) -> bool:
        num_complete = self._ledger.pareto_tracker.counts[TrialState.COMPLETE]
        if num_complete != self._checked_at:
            self._checked_at = num_complete
            tracker = self._ledger.pareto_tracker
            losses = tracker.feasible_losses()
            before = tracker.feasible_losses(without_latest=min(plateau.trials, num_complete))
            if len(before):
                box = Box.around(losses, tracker.objectives.log_columns)
                now = box.normalized_hypervolume(losses)
                self._on_plateau = now <= box.normalized_hypervolume(before) * (
                    1 + plateau.percent / 100
                )
        return self._on_plateau
