"""Intervals for means of a few noisy numbers: 95 % everywhere.

Square-and-add: the margins of independent sources of error are squared and added, on each side by
itself (Zou and Donner 2008, doi 10.1002/sim.3095), which for equal and normal margins is the usual
rule, and also serves for margins that are neither.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from analysis.pareto.front import BoolArray, FloatArray
from spaces.intervals import Interval, Z, wilson_interval


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
    images = wilson_interval(mean, _effective_images(correct.mean(axis=0)))
    return Interval(
        mean=mean,
        low=max(0.0, mean - float(np.hypot(seeds, mean - images.low))),
        high=min(1.0, mean + float(np.hypot(seeds, images.high - mean))),
    )


def metric_interval(of_seeds: FloatArray, drawn: FloatArray) -> Interval:
    """A metric that is no share of images, over seeds and over images.

    of_seeds: (seeds,), at least 2. drawn: (draws,) means over the seeds, each of other images
    (`uncertain_front.draw_images`); 95 % of them give the error of the images.
    """
    mean, seeds = float(of_seeds.mean()), _t_margin([of_seeds])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(
        mean=mean,
        low=max(0.0, mean - float(np.hypot(seeds, max(0.0, mean - low)))),
        high=min(1.0, mean + float(np.hypot(seeds, max(0.0, high - mean)))),
    )


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
    return Z * float(np.std(shares, ddof=1)) / len(shares) ** 0.5


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
