"""Intervals for means of a few noisy numbers: 95 % everywhere.

Square-and-add: the margins of independent sources of error are squared and added, on each side by
itself (Zou and Donner 2008, doi 10.1002/sim.3095), which for equal and normal margins is the usual
rule, and also serves for margins that are neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.pareto.front import BoolArray, FloatArray

_Z = 1.959963984540054  # of the normal distribution, for 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and the 95 % interval around it."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high

    def to_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}


def accuracy_interval(correct: BoolArray) -> Interval:
    """The accuracy of a recipe, over seeds and over images.

    correct: (seeds, images), at least 2 seeds: whether the model of a seed was right on an image;
    all of them saw the same images.

    Two errors are added by squares. Other seeds would have come out elsewhere: Student's t, with
    the spread of the seeds' accuracies over the root of their number. Other images would be other
    questions: Wilson's score interval for as many images as would have the spread that the images'
    shares of right answers have (all of them where seeds agree on every image, more where they do
    not). What is neither the seed's nor the image's counts in both, so that the interval is rather
    too wide than too narrow: simulated with 3 seeds and 150 images, 95 to 99 % of them hold the
    truth.
    """
    correct = np.asarray(correct, dtype=float)
    mean = float(correct.mean())
    seeds = _t_margin([correct.mean(axis=1)])
    low, high = _wilson(mean, _effective_images(correct.mean(axis=0)))
    return Interval(
        mean=mean,
        low=max(0.0, mean - float(np.hypot(seeds, mean - low))),
        high=min(1.0, mean + float(np.hypot(seeds, high - mean))),
    )


def wilson_interval(share: float, count: int) -> Interval:
    """The accuracy of one model: Wilson's score interval, over images only.

    share: of right answers, 0 to 1; count: of images, at least 1.
    """
    low, high = _wilson(share, count)
    return Interval(mean=share, low=max(0.0, low), high=min(1.0, high))


def mean_over_groups(groups: Sequence[FloatArray], other_margin: float = 0.0) -> Interval:
    """The mean of groups' means, each group with a spread of its own.

    groups: of each, at least 2 numbers, such as a candidate's over its seeds. Student's t with
    Satterthwaite's degrees of freedom. other_margin: half of the 95 % interval of an independent
    error, added by squares.
    """
    mean = float(np.mean([np.mean(group) for group in groups]))
    margin = float(np.hypot(_t_margin(groups), other_margin))
    return Interval(mean=mean, low=mean - margin, high=mean + margin)


def difference(values: FloatArray, others: FloatArray) -> Interval:
    """How far the mean of values lies above that of others: Welch's t.

    Both of at least 2 numbers, whose spreads may differ.
    """
    mean = float(np.mean(values) - np.mean(others))
    margin = 2 * _t_margin([values, others])  # which is of the half of their sum
    return Interval(mean=mean, low=mean - margin, high=mean + margin)


def images_margin(shares: FloatArray) -> float:
    """Half of the 95 % interval that the finite number of images gives the mean of their shares.

    shares: (images,), of right answers; at least 2 images.
    """
    return _Z * float(np.std(shares, ddof=1)) / len(shares) ** 0.5


def _t_margin(groups: Sequence[FloatArray]) -> float:
    """Half of the 95 % interval of the mean of groups' means; 0 where no group has a spread."""
    sizes = np.array([len(group) for group in groups])
    variances = np.array([np.var(group, ddof=1) for group in groups]) / sizes
    if not variances.any():
        return 0.0
    freedom = variances.sum() ** 2 / (variances**2 / (sizes - 1)).sum()
    return float(stdtrit(freedom, 0.975) * variances.sum() ** 0.5 / len(groups))


def _effective_images(shares: FloatArray) -> float:
    """How many images of one answer each would have the spread that these shares have."""
    count, mean = len(shares), float(np.mean(shares))
    spread = float(np.var(shares))
    # Without a spread of shares, as where every answer is right, images are all that there is.
    return count * mean * (1 - mean) / spread if spread > 0 else float(count)


def _wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's score interval of a share among so many (1927, doi 10.2307/2276774)."""
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * (share * (1 - share) / count + (_Z / (2 * count)) ** 2) ** 0.5
    return centre - half, centre + half
