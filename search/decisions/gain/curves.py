"""A model of accuracy from all learning curves: a Gaussian process over recipes and epochs.

It learns from every epoch of every trial, also of those that were stopped or still run. It works on
the logit of the accuracy, so that 98 and 99 % are as far apart as 50 and 67 %. What it predicts of
a recipe is the accuracy after its last epoch.
"""

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
# How much trials of one recipe differ, relative to what is assumed. The most likely one counts.
# Scaling what recipes have in common as well narrowed too early in small searches.
_OWN_SCALES = (1.0, 0.3, 0.1)


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

    def __init__(self, encoding: Encoding, observed: Points, accuracies: FloatArray) -> None:
        """accuracies: (points,) of the observed points, 0 to 1."""
        self._encoding = encoding
        self._observed = observed
        logits = to_logits(accuracies)
        self._centre = float(logits.mean()) if len(logits) else 0.0
        parts = self._parts(observed, observed)
        self._own_scale, self._factor, self._weights = _most_likely(parts, logits - self._centre)

    def predict(self, points: Points) -> Predicted:
        """The logits at points."""
        cross = self._covariance(self._observed, points)
        mean = self._centre + cross.T @ self._weights
        explained = solve_triangular(self._factor, cross, lower=True)
        variance = self._variance - (explained**2).sum(axis=0)
        return Predicted(mean=mean, deviation=np.sqrt(np.maximum(variance, 1e-6)))

    def predict_given(self, points: Points, observed: Points, accuracies: FloatArray) -> Predicted:
        """As `predict`, with a few more observations, which the model does not keep."""
        near = np.ascontiguousarray(self._explained(observed))
        known = self._covariance(observed, observed) - near.T @ near
        known[np.diag_indices_from(known)] += _NOISE
        far = self._explained(points)
        between = self._covariance(observed, points) - near.T @ far
        factor = cholesky(known, lower=True)
        surprise = to_logits(accuracies) - self.predict(observed).mean
        before = self.predict(points)
        mean = before.mean + between.T @ cho_solve((factor, True), surprise)
        explained = solve_triangular(factor, between, lower=True)
        variance = before.deviation**2 - (explained**2).sum(axis=0)
        return Predicted(mean=mean, deviation=np.sqrt(np.maximum(variance, 1e-6)))

    def _explained(self, points: Points) -> FloatArray:
        cross = self._covariance(self._observed, points)
        return solve_triangular(self._factor, cross, lower=True)

    def _covariance(self, ones: Points, others: Points) -> FloatArray:
        """Between all of ones and all of others: (ones, others)."""
        recipes, time, trial = self._parts(ones, others)
        return recipes + time + self._own_scale * trial

    @property
    def _variance(self) -> float:
        """Of one point, before any observation."""
        return _BY_RECIPE + _BY_TIME + _OWN * self._own_scale

    def _parts(self, ones: Points, others: Points) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Covariances (ones, others): by recipe, by time and schedule, and within a trial."""
        alike, joint = self._encoding.similarity(ones.recipes, others.recipes)
        pick = np.ix_(ones.which, others.which)
        alike, joint = alike[pick], joint[pick]
        apart = ones.times[:, None] - others.times[None, :]
        in_time = np.exp(-(apart**2) / (2 * _LENGTH_IN_TIME**2))
        same_schedule = ones.schedules[:, None] == others.schedules[None, :]
        same_trial = (ones.trials[:, None] == others.trials[None, :]) & (ones.trials[:, None] >= 0)
        return (
            0.75 * alike + 0.4 * joint + (0.2 * alike + 0.25 * joint) * in_time,
            (1.0 + 0.6 * same_schedule) * in_time,
            (0.25 + 0.2 * in_time) * same_trial,
        )


_BY_RECIPE, _BY_TIME, _OWN = 0.75 + 0.4 + 0.2 + 0.25, 1.0 + 0.6, 0.25 + 0.2


def _most_likely(
    parts: tuple[FloatArray, FloatArray, FloatArray], centred: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """The scale that explains the observations best, with the Cholesky factor and the weights."""
    found: list[tuple[float, float, FloatArray, FloatArray]] = []
    for scale in _OWN_SCALES:
        covariance = parts[0] + parts[1] + scale * parts[2]
        covariance[np.diag_indices_from(covariance)] += _NOISE
        factor = cholesky(covariance, lower=True, overwrite_a=True)
        weights = cho_solve((factor, True), centred)
        fit = -0.5 * float(centred @ weights) - float(np.log(np.diag(factor)).sum())
        found.append((fit, scale, factor, weights))
    return max(found, key=lambda one: one[0])[1:]


def to_logits(accuracies: FloatArray) -> FloatArray:
    """The logits of accuracies from 0 to 1, both ends cut off."""
    clipped = np.clip(accuracies, _CLIP, 1 - _CLIP)
    return np.log(clipped / (1 - clipped))
