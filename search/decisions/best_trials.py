"""Finds the best complete trials without going through all of them."""

import moocore
import numpy as np

from spaces.columns import FloatArray


class BestTrials:
    """The best complete trials, kept up to date without going through all of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._numbers = np.empty(0, dtype=np.intp)
        self._losses = np.empty((0, 0))
        self._num_better = np.empty(0, dtype=np.intp)
        self._top: list[int] = []
        self._is_current = True

    def add(self, number: int, losses: FloatArray) -> None:
        """Add a complete trial. losses: (objectives,), all minimised."""
        before = self._losses.reshape(-1, len(losses))
        better = (before <= losses).all(axis=1) & (before < losses).any(axis=1)
        worse = (before >= losses).all(axis=1) & (before > losses).any(axis=1)
        num_better = np.append(self._num_better + worse, better.sum())
        # Drop a trial once `size` others are better. It can't be among the best again, and does not
        # decide who is: those others are also better than all that it dominates.
        kept = num_better < self._size
        self._numbers = np.append(self._numbers, number)[kept]
        self._losses = np.vstack([before, losses])[kept]
        self._num_better = num_better[kept]
        self._is_current = False

    def top(self) -> list[int]:
        """Numbers of the best trials, front by front, and evenly along the last front."""
        if not self._is_current:
            self._top = self._numbers[self._choose()].tolist()
            self._is_current = True
        return self._top

    def _choose(self) -> np.ndarray:
        if len(self._numbers) <= self._size:
            return np.arange(len(self._numbers))
        ranks = moocore.pareto_rank(self._losses)
        last = np.sort(ranks)[self._size - 1]
        within = np.flatnonzero(ranks < last)
        # Sort by losses and then by number, so that the order of finishing does not matter.
        order = np.lexsort((self._numbers, *self._losses.T[::-1]))
        tied = order[ranks[order] == last]
        seats = np.linspace(0, len(tied) - 1, self._size - len(within)).round().astype(np.intp)
        return np.concatenate([within, tied[seats]])
