"""A model of accuracy from all learning curves: a Gaussian process over recipes and epochs.

It learns from every epoch of every trial, also of those that were stopped or still run. It works on
the logit of the accuracy, so that 98 and 99 % are as far apart as 50 and 67 %. What it predicts of
a recipe is the accuracy after its last epoch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular

from search.decisions.gain.encoding import Encoding
from spaces.columns import FloatArray

IntArray = npt.NDArray[np.intp]

_CLIP = 0.01  # accuracies below this and above 1 - this count as this
_NOISE = 0.04
# Of trials on the data before it grew, guessed: by how much all of them may differ together from
# this data's, and each epoch's noise. With trials of its own, the model learns the first.
_SHIFT, _NOISE_OF_EARLIER_DATA = 0.25, 0.16
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
    """(points,) numbers of trials; equal ones are of the same training. Below 0: of no trial, so
    that what is predicted is the recipe's."""
    data: IntArray
    """(points,) 0: this search's data. Above: codes of the data that it has grown from."""

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicted:
    """Normal distributions of logits."""

    mean: FloatArray
    deviation: FloatArray

    def accuracies(self, deviations: FloatArray) -> FloatArray:
        """(points, deviations): accuracies, 0 to 1, so many standard deviations from the mean."""
        logits = self.mean[:, None] + self.deviation[:, None] * deviations
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
        noise = np.where(observed.data > 0, _NOISE_OF_EARLIER_DATA, _NOISE)
        self._own_scale, self._factor, self._weights = _most_likely(
            parts, noise, logits - self._centre
        )

    def predict(self, points: Points) -> Predicted:
        """The logits at points."""
        return self._predict(points)[0]

    def predict_given(self, points: Points, observed: Points, accuracies: FloatArray) -> Predicted:
        """As `predict`, each point given later observations of its own trial.

        The model does not keep them. points: one of each trial.
        """
        (predicted, far), (seen, near) = self._predict(points), self._predict(observed)
        surprises = to_logits(accuracies) - seen.mean
        own = [np.flatnonzero(observed.trials == trial) for trial in points.trials]
        counts = np.array([len(of_one) for of_one in own])
        for count in np.unique(counts[counts > 0]):  # trials with as many observations, all at once
            at = np.flatnonzero(counts == count)
            of = np.stack([own[position] for position in at])  # (trials, observations)
            ahead, behind = near[:, of], far[:, at]
            times = observed.times[of]
            known = self._within_a_trial(times[:, :, None], times[:, None])
            known -= np.einsum("rto,rtp->top", ahead, ahead)
            known += _NOISE * np.eye(count)
            between = self._within_a_trial(times, points.times[at][:, None])
            between -= np.einsum("rto,rt->to", ahead, behind)
            gain = np.linalg.solve(known, between[:, :, None])[:, :, 0]
            predicted.mean[at] += (gain * surprises[of]).sum(axis=1)
            variance = predicted.deviation[at] ** 2 - (gain * between).sum(axis=1)
            predicted.deviation[at] = np.sqrt(np.maximum(variance, 1e-6))
        return predicted

    def _within_a_trial(self, times: FloatArray, others: FloatArray) -> FloatArray:
        """Covariance of one recipe's accuracies at times of the same training."""
        in_time = _in_time(times - others)
        shared = _by_recipe(1.0, 1.0, in_time) + _by_time(in_time, 1.0)
        return shared + self._own_scale * _by_trial(in_time)

    def _predict(self, points: Points) -> tuple[Predicted, FloatArray]:
        """As `predict`, and (rows, points) what the rows of the model explain of each point."""
        cross = self._covariance(self._observed, points)
        mean = self._centre + cross.T @ self._weights
        explained = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        # A recipe is worth what it comes to, without the luck of one training. With it, a search of
        # 24 trials tried the cheapest model 16 times.
        luck = self._own_scale * _by_trial(np.ones(1))
        variance = self._variance - luck * (points.trials < 0) - (explained**2).sum(axis=0)
        deviation = np.sqrt(np.maximum(variance, 1e-6))
        return Predicted(mean=mean, deviation=deviation), explained

    def _covariance(self, ones: Points, others: Points) -> FloatArray:
        """Between all of ones and all of others: (ones, others)."""
        recipes, time, trial = self._parts(ones, others)
        return recipes + time + self._own_scale * trial

    @property
    def _variance(self) -> float:
        """Of one point, before any observation."""
        return float(self._within_a_trial(np.zeros(1), np.zeros(1))[0])

    def _parts(self, ones: Points, others: Points) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Covariances (ones, others): by recipe; by time, schedule and data; within a trial."""
        alike, joint = self._encoding.similarity(ones.recipes, others.recipes)
        pick = np.ix_(ones.which, others.which)
        alike, joint = alike[pick], joint[pick]
        in_time = _in_time(ones.times[:, None] - others.times[None, :])
        same_schedule = ones.schedules[:, None] == others.schedules[None, :]
        same_trial = (ones.trials[:, None] == others.trials[None, :]) & (ones.trials[:, None] >= 0)
        same_earlier_data = (ones.data[:, None] == others.data[None, :]) & (ones.data[:, None] > 0)
        return (
            _by_recipe(alike, joint, in_time),
            _by_time(in_time, same_schedule) + _SHIFT * same_earlier_data,
            _by_trial(in_time) * same_trial,
        )


def _in_time(apart: FloatArray) -> FloatArray:
    return np.exp(-(apart**2) / (2 * _LENGTH_IN_TIME**2))


def _by_recipe(alike: Any, joint: Any, in_time: FloatArray) -> FloatArray:
    return 0.75 * alike + 0.4 * joint + (0.2 * alike + 0.25 * joint) * in_time


def _by_time(in_time: FloatArray, same_schedule: Any) -> FloatArray:
    return (1.0 + 0.6 * same_schedule) * in_time


def _by_trial(in_time: FloatArray) -> FloatArray:
    return 0.25 + 0.2 * in_time


def _most_likely(
    parts: tuple[FloatArray, FloatArray, FloatArray], noise: FloatArray, centred: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """The scale that explains the observations best, with the Cholesky factor and the weights."""
    found: list[tuple[float, float, FloatArray, FloatArray]] = []
    for scale in _OWN_SCALES:
        covariance = parts[0] + parts[1] + scale * parts[2]
        covariance[np.diag_indices_from(covariance)] += noise
        factor = cholesky(covariance, lower=True, overwrite_a=True)
        weights = cho_solve((factor, True), centred)
        fit = -0.5 * float(centred @ weights) - float(np.log(np.diag(factor)).sum())
        found.append((fit, scale, factor, weights))
    return max(found, key=lambda one: one[0])[1:]


def to_logits(accuracies: FloatArray) -> FloatArray:
    """The logits of accuracies from 0 to 1, both ends cut off."""
    clipped = np.clip(accuracies, _CLIP, 1 - _CLIP)
    return np.log(clipped / (1 - clipped))
