"""How long an epoch of a recipe takes: by arithmetic at first, then corrected by what was seen."""

import math
from collections.abc import Sequence

import numpy as np

from spaces.columns import FloatArray

# Standard deviations, in logarithms, of: the speed of a machine that nothing is known of; what one
# dimension changes beyond the arithmetic, from one end to the other; and repeated measurements.
_SPEED, _DIMENSION, _REPEATED = 5.0, 0.7, 0.2
# The first guess, before any epoch has ended: 50 GFLOP a second, which a core does.
_SECONDS_A_UNIT = 1.0


class EpochSeconds:
    """Seconds of an epoch = arithmetic x a factor that depends on the recipe's dimensions."""

    def __init__(self, points: FloatArray, efforts: FloatArray, seconds: FloatArray) -> None:
        """Of trials that have run: (trials, dimensions) scaled; efforts and seconds of an epoch."""
        inputs = np.column_stack([np.ones(len(points)), points])
        prior = np.array([_SPEED] + [_DIMENSION] * points.shape[1])
        targets = np.log(seconds) - np.log(efforts) - math.log(_SECONDS_A_UNIT)
        precision = inputs.T @ inputs / _REPEATED**2 + np.diag(1 / prior**2)
        self._slopes = np.linalg.solve(precision, inputs.T @ targets / _REPEATED**2)

    def of(self, points: FloatArray, efforts: FloatArray) -> FloatArray:
        """(recipes,) seconds of an epoch."""
        inputs = np.column_stack([np.ones(len(points)), points])
        return np.exp(inputs @ self._slopes) * efforts * _SECONDS_A_UNIT


def one_hot(points: FloatArray, num_numbers: int, sizes: Sequence[int]) -> FloatArray:
    """Numbers as they are, 0.5 where absent, and a column for each word."""
    numbers = np.nan_to_num(points[:, :num_numbers], nan=0.5)
    words = [
        (points[:, num_numbers + column, None] == np.arange(size))
        for column, size in enumerate(sizes)
    ]
    return np.column_stack([numbers, *words]).astype(float)
