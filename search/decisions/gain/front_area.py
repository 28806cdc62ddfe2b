"""How much a front would grow by a model of known costs and uncertain accuracy."""

import numpy as np
from scipy.stats import qmc

from spaces.columns import FloatArray

_MARGIN = 0.1
_NUM_SAMPLES_LOG2 = 9
_ONE = np.ones(1)


class FrontArea:
    """The hypervolume below accuracies, over costs scaled to 0..1 and up to a margin behind 1."""

    def __init__(self, costs: FloatArray, accuracies: FloatArray, *, floor: float) -> None:
        """costs: (models, costs) of a front, scaled; accuracies: (models,), or of any models.

        floor: the accuracy above which the area counts. `edge`: positions of the models without
        which the area would be smaller, and perhaps of some more.
        """
        self._num_costs = costs.shape[1]
        order = np.lexsort((-accuracies, costs[:, 0])) if self._num_costs else np.arange(len(costs))
        self._costs = costs[order]
        self._accuracies = np.maximum(accuracies[order], floor)
        self._floor = floor
        if self._num_costs == 1:
            best = np.maximum.accumulate(np.concatenate([[floor], self._accuracies]))
            rises = np.flatnonzero(np.diff(best) > 0)
            self._levels = best[np.concatenate([[0], rises + 1])]
            ends = np.minimum(self._costs[rises, 0], 1 + _MARGIN)
            self._edges = np.concatenate([[-np.inf], ends, [1 + _MARGIN]])
            self.edge = order[rises]
        elif self._num_costs > 1:
            sampler = qmc.Sobol(self._num_costs, scramble=False)
            self._samples = sampler.random_base2(_NUM_SAMPLES_LOG2) * (1 + _MARGIN)
            below = (self._costs[None] <= self._samples[:, None]).all(axis=2)
            levels = np.where(below, self._accuracies[None], floor)
            highest = levels.max(axis=1, initial=floor)
            self._levels, self._level_of = np.unique(highest, return_inverse=True)
            counts = highest > floor
            self.edge = order[(levels[counts] == highest[counts, None]).any(axis=0)]
        else:
            self._levels = np.array([max([floor, *self._accuracies])])
            self.edge = np.flatnonzero(self._accuracies == self._levels[0])

    def gains(
        self, costs: FloatArray, accuracies: FloatArray, weights: FloatArray = _ONE
    ) -> FloatArray:
        """(models,) mean area that each model would add alone.

        costs: (models, costs), scaled; accuracies: (models, cases); weights: (cases,) adding up to
        1.
        """
        shares = self._shares(costs)
        heights = np.maximum(accuracies[:, :, None] - self._levels, 0.0)
        return np.einsum("mcl,ml,c->m", heights, shares, weights, optimize=True)

    def whole_with(self, costs: FloatArray, accuracies: FloatArray) -> float:
        """The area that models add together."""
        total, front = 0.0, self
        for cost, accuracy in zip(costs, accuracies, strict=True):
            total += float(front.gains(cost[None], np.array([[accuracy]]))[0])
            front = FrontArea(
                np.vstack([front._costs, cost]),
                np.append(front._accuracies, accuracy),
                floor=self._floor,
            )
        return total

    def _shares(self, costs: FloatArray) -> FloatArray:
        """(models, levels): the part of the costs where the model counts and the level holds."""
        if self._num_costs == 0:
            return np.ones((len(costs), 1))
        if self._num_costs == 1:
            starts = np.maximum(self._edges[:-1], costs)
            return np.clip(self._edges[1:] - starts, 0.0, None)
        below = (costs[:, None] <= self._samples[None]).all(axis=2).astype(float)
        onto = np.eye(len(self._levels))[self._level_of]
        return below @ onto / len(self._samples) * (1 + _MARGIN) ** self._num_costs
