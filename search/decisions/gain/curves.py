"""A model of accuracy from all learning curves: a Gaussian process over recipes and epochs.

It learns from every epoch of every trial, also of those that were stopped or still run. It works on
the logit of the accuracy, so that 98 and 99 % are as far apart as 50 and 67 %. What it predicts of
a recipe is the accuracy after its last epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular

from search.decisions.gain.encoding import Encoding
from spaces.columns import FloatArray

IntArray = npt.NDArray[np.intp]

_CLIP = 0.01  # accuracies below this and above 1 - this count as this
_NOISE = 0.04
# In training time, ln(epoch) / ln(epochs): 0 is the first epoch, 1 the last.
_LENGTH_IN_TIME = 0.35


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """Recipes at epochs: where accuracies were observed, or are to be predicted."""

    recipes: FloatArray
    """(recipes, dimensions), as `Encoding.encode` gives them."""
    which: IntArray
    """(points,) rows of `recipes`."""
    times: FloatArray
    """(points,) from 0, the first epoch, to 1, the last."""
    schedules: IntArray
    """(points,) codes of learning-rate schedules."""
    trials: IntArray
    """(points,) numbers of trials; equal ones are of the same training. Below 0: of no trial."""

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicted:
    """Normal distributions of logits."""

    mean: FloatArray
    deviation: FloatArray

    def accuracies(self, quantiles: FloatArray) -> FloatArray:
        """(points, quantiles): accuracies, 0 to 1. quantiles: of the standard normal."""
        logits = self.mean[:, None] + self.deviation[:, None] * quantiles
        return 1 / (1 + np.exp(-logits))


class CurveModel:
    """The Gaussian process, given observations."""

    def __init__(self, encoding: Encoding, observed: Points, accuracies: Sequence[float]) -> None:
        """accuracies: (points,) of the observed points, 0 to 1."""
        self._encoding = encoding
        self._observed = observed
        logits = to_logits(np.asarray(accuracies, dtype=float))
        self._centre = float(logits.mean()) if len(logits) else 0.0
        covariance = self._covariance(observed, observed)
        covariance[np.diag_indices_from(covariance)] += _NOISE
        self._factor = cholesky(covariance, lower=True)
        self._weights = cho_solve((self._factor, True), logits - self._centre)

    def predict(self, points: Points) -> Predicted:
        """The logits at points."""
        cross = self._covariance(self._observed, points)
        mean = self._centre + cross.T @ self._weights
        explained = solve_triangular(self._factor, cross, lower=True)
        variance = _VARIANCE - (explained**2).sum(axis=0)
        return Predicted(mean=mean, deviation=np.sqrt(np.maximum(variance, 1e-6)))

    def _covariance(self, ones: Points, others: Points) -> FloatArray:
        """(ones, others)"""
        alike, joint = self._encoding.similarity(ones.recipes, others.recipes)
        pick = np.ix_(ones.which, others.which)
        alike, joint = alike[pick], joint[pick]
        apart = ones.times[:, None] - others.times[None, :]
        in_time = np.exp(-(apart**2) / (2 * _LENGTH_IN_TIME**2))
        same_schedule = ones.schedules[:, None] == others.schedules[None, :]
        same_trial = (ones.trials[:, None] == others.trials[None, :]) & (ones.trials[:, None] >= 0)
        return (
            1.5 * alike
            + 0.8 * joint
            + (0.5 * joint + 0.4 * alike + 1.0 + 0.6 * same_schedule + 0.2 * same_trial) * in_time
            + 0.25 * same_trial
        )


_VARIANCE = 1.5 + 0.8 + 0.5 + 0.4 + 1.0 + 0.6 + 0.2 + 0.25


def to_logits(accuracies: FloatArray) -> FloatArray:
    clipped = np.clip(accuracies, _CLIP, 1 - _CLIP)
    return np.log(clipped / (1 - clipped))
