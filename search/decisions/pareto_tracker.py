"""The trials that are over: the front so far, their losses, and counts by state."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from optuna.trial import TrialState

from search.decisions.trial_record import TrialRecord
from spaces.columns import FloatArray
from spaces.objectives import Objectives, dominates


class ParetoTracker:
    """Adds trials one by one as they end, so that nothing has to go through all of them."""

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        self.counts: Counter[TrialState] = Counter()
        self.num_refused = 0
        """Pruned trials that were not allowed to begin."""
        self.seconds = 0.0
        """Time in the epochs of the trials that are over."""
        self._complete: list[list[float] | None] = []
        """The losses of each complete trial; None if it breaks a constraint."""
        self._front: list[tuple[list[float], TrialRecord]] = []

    def take_in(self, record: TrialRecord) -> list[TrialRecord]:
        """Count a trial that is over.

        Returns the complete trials that are off the front now: those that this one dominates, or
        itself.
        """
        self.counts[record.state] += 1
        self.seconds += record.seconds
        self.num_refused += record.refused
        if record.state != TrialState.COMPLETE:
            return []
        feasible = self.objectives.are_feasible(record.numbers())
        losses = self.losses(record) if feasible else None
        self._complete.append(losses)
        if losses is None:
            return [record]
        # If it took over a result of this study, the front has decided on that result already.
        repeated = record.reused is not None and record.reused >= 0
        if repeated or any(dominates(others, losses) for others, _ in self._front):
            return [record]
        overtaken = [other for others, other in self._front if dominates(losses, others)]
        self._front = [entry for entry in self._front if not dominates(losses, entry[0])]
        self._front.append((losses, record))
        return overtaken

    def front(self) -> list[TrialRecord]:
        """Complete trials that no other one dominates, the cheapest by the last objective first.

        Only trials that keep the study's constraints. If trials have the same recipe, only the one
        that was trained is included.
        """
        return [record for _, record in sorted(self._front, key=lambda entry: entry[0][::-1])]

    @property
    def front_losses(self) -> FloatArray:
        """(trials on the front, objectives), all minimised."""
        return self._array([losses for losses, _ in self._front])

    def feasible_losses(self, *, without_latest: int = 0) -> FloatArray:
        """(complete trials that keep the constraints, objectives), in the order they ended.

        All minimised. without_latest: leave out this many of the complete trials.
        """
        counted = self._complete[: len(self._complete) - without_latest]
        return self._array([losses for losses in counted if losses is not None])

    def dominator(self, record: TrialRecord, reached: float = 1.0) -> TrialRecord | None:
        """A trial of the front that would dominate this one if its metric reached this."""
        if self.objectives.metric is None:
            return None
        losses = self.losses(record, reached)
        return next((other for others, other in self._front if dominates(others, losses)), None)

    def losses(self, record: TrialRecord, reached: float | None = None) -> list[float]:
        """A trial's objectives, all minimised. reached: used instead of its own metric."""
        numbers, metric = record.numbers(), self.objectives.metric
        if reached is not None and metric is not None:
            numbers[metric] = reached
        return self.objectives.losses_of(numbers)

    def _array(self, losses: Sequence[Sequence[float]]) -> FloatArray:
        return np.array(losses, dtype=float).reshape(len(losses), len(self.objectives))
