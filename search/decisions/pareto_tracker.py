"""How the trials that are over stand to each other: objectives, the front, counts."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from optuna.trial import TrialState

from analysis.columns import ACCURACY
from analysis.pareto.front import FloatArray
from search.storage.trial_record import TrialRecord


class ParetoTracker:
    """Taken in one by one as they end, so that nothing has to go through all of them again."""

    def __init__(self, objectives: Mapping[str, str], *, keep_dominated: bool = False) -> None:
        """keep_dominated: complete trials keep their checkpoints when others dominate them."""
        self.counts: Counter[TrialState] = Counter()
        self.num_refused = 0
        """Pruned trials that were never allowed to begin."""
        self.seconds = 0.0
        """In the epochs of the trials that are over."""
        self._objectives = dict(objectives)
        self._keep_dominated = keep_dominated
        self._complete: list[TrialRecord] = []
        self._front: list[TrialRecord] = []

    def take_in(self, record: TrialRecord) -> None:
        """Count a trial that is over; a complete one stands on the front as long as it may."""
        self.counts[record.state] += 1
        self.seconds += record.seconds
        self.num_refused += record.refused
        if record.state == TrialState.COMPLETE:
            self._complete.append(record)
            self._stand_on_front(record)

    def front(self) -> list[TrialRecord]:
        """Complete trials that none other dominates, the cheapest by the last objective first.

        Of trials with the same recipe, only the one that was trained.
        """
        return sorted(self._front, key=lambda record: self.losses(record)[::-1])

    @property
    def front_losses(self) -> FloatArray:
        """(trials on the front, objectives), all minimised."""
        return self._losses_of(self._front)

    @property
    def complete_losses(self) -> FloatArray:
        """(complete trials, objectives), all minimised, in the order in which they were told."""
        return self._losses_of(self._complete)

    def could_reach_front(self, record: TrialRecord, accuracy: float = 1.0) -> bool:
        """Whether no complete trial would dominate this one if it came to this accuracy."""
        if ACCURACY not in self._objectives:
            return True
        losses = self.losses(record, accuracy)
        return not any(_dominates(self.losses(other), losses) for other in self._front)

    def values(self, record: TrialRecord) -> list[float]:
        """A complete trial's objectives."""
        return self._numbers(record, record.accuracy)

    def losses(self, record: TrialRecord, accuracy: float | None = None) -> list[float]:
        """A trial's objectives, all minimised; accuracy: in the place of its own."""
        numbers = self._numbers(record, record.accuracy if accuracy is None else accuracy)
        ways = self._objectives.values()
        return [
            -number if way == "max" else number for number, way in zip(numbers, ways, strict=True)
        ]

    def _numbers(self, record: TrialRecord, accuracy: float | None) -> list[float]:
        numbers = {ACCURACY: accuracy}
        return [
            float(numbers[name] if name in numbers else getattr(record.cost, name))  # pyright: ignore[reportArgumentType]
            for name in self._objectives
        ]

    def _losses_of(self, records: Sequence[TrialRecord]) -> FloatArray:
        losses = [self.losses(record) for record in records]
        return np.array(losses, dtype=float).reshape(len(losses), len(self._objectives))

    def _stand_on_front(self, record: TrialRecord) -> None:
        losses = self.losses(record)
        # Where the source of its result is a trial of this study, that one stands there already.
        repeated = record.reused is not None and record.reused >= 0
        if repeated or any(_dominates(self.losses(other), losses) for other in self._front):
            self._drop_checkpoint(record)
            return
        for other in self._front:
            if _dominates(losses, self.losses(other)):
                self._drop_checkpoint(other)
        self._front = [one for one in self._front if not _dominates(losses, self.losses(one))]
        self._front.append(record)

    def _drop_checkpoint(self, record: TrialRecord) -> None:
        if not self._keep_dominated:
            record.checkpoint = None


def _dominates(losses: list[float], others: list[float]) -> bool:
    """Whether the first are nowhere larger and somewhere smaller."""
    return losses != others and all(a <= b for a, b in zip(losses, others, strict=True))
