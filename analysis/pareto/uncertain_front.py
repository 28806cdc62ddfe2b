"""A front whose accuracies are not quite known: which of its points are truly non-dominated.

Draws stand for what other test images and other seeds would have given. Of a draw's accuracies and
the costs, which are exact, follows a front like any other.
"""

from collections.abc import Callable, Collection, Sequence

import moocore
import numpy as np

from analysis.pareto.front import BoolArray, Box, FloatArray, IntArray, pareto_front

DRAWS = 2000
_DRAWS_AT_ONCE = 100


def most_contributing(losses: FloatArray, box: Box, count: int) -> IntArray:
    """Positions of the rows that add most to the hypervolume, in rising order.

    losses: (rows, objectives), all minimised. box: in which losses are scaled, as in `Box.share`,
    with a tenth of the range added behind the worst, so that the ends of a front count too. Of
    equal rows the first counts, the others add nothing; among rows that add the same, earlier ones
    win.
    """
    scaled = box.scale(losses)
    firsts = np.unique(scaled, axis=0, return_index=True)[1]
    points = scaled[firsts]
    if points.shape[1] == 1:  # which moocore does not take
        points = np.hstack([points, np.zeros_like(points)])
    added = np.zeros(len(losses))
    added[firsts] = moocore.hv_contributions(points, ref=np.full(points.shape[1], 1.1))
    return np.sort(np.argsort(-added, kind="stable")[:count])


def draw_accuracies(
    correct: Sequence[BoolArray], *, draws: int = DRAWS, seed: int = 0
) -> FloatArray:
    """Accuracies (draws, candidates) as other images and other seeds would have given them.

    correct: of each candidate (seeds, images), at least 2 seeds; the images are the same ones.

    A draw takes as many images again, with replacement, the same ones for all candidates: what is
    hard for all of them moves all of them. To that comes, for each candidate by itself, Student's
    t with one degree of freedom less than it has seeds, times their standard deviation over the
    root of their number. Where a candidate is right on every image, no draw of images tells
    otherwise.
    """
    random = np.random.default_rng(seed)
    shares = np.stack([seeds.mean(axis=0) for seeds in correct])
    num_images = shares.shape[1]
    drawn = np.empty((draws, len(correct)))
    # By parts: (draws, images) of all of them may not fit into memory.
    for start in range(0, draws, _DRAWS_AT_ONCE):
        part = drawn[start : start + _DRAWS_AT_ONCE]
        picked = random.multinomial(num_images, np.full(num_images, 1 / num_images), len(part))
        part[:] = picked @ shares.T / num_images
    return _with_errors_of_seeds(drawn, [seeds.mean(axis=1) for seeds in correct], random)


def draw_images(
    measures: Sequence[Callable[[IntArray], FloatArray]],
    num_images: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> FloatArray:
    """Metrics (draws, candidates) as other images would have given them, for any metric.

    measures: of each candidate, a function from how often each image counts, (images,), to the
    metric of each of its seeds. A draw takes as many images again, as in `draw_accuracies`.
    """
    random = np.random.default_rng(seed)
    even = np.full(num_images, 1 / num_images)
    return np.array(
        [
            [measure(times).mean() for measure in measures]
            for times in (random.multinomial(num_images, even) for _ in range(draws))
        ]
    )


def add_errors_of_seeds(
    drawn: FloatArray, of_seeds: Sequence[FloatArray], *, seed: int = 0
) -> FloatArray:
    """Draws of `draw_images` as other seeds too would have given them.

    of_seeds: of each candidate, the metric of each of its seeds.
    """
    return _with_errors_of_seeds(drawn.copy(), of_seeds, np.random.default_rng([seed, 1]))


def _with_errors_of_seeds(
    drawn: FloatArray, of_seeds: Sequence[FloatArray], random: np.random.Generator
) -> FloatArray:
    for index, values in enumerate(of_seeds):
        error = values.std(ddof=1) / len(values) ** 0.5
        drawn[:, index] += error * random.standard_t(len(values) - 1, len(drawn))
    return drawn.clip(0, 1)


def front_shares(losses: FloatArray) -> FloatArray:
    """(candidates,): the share of draws in which none other dominates a candidate.

    losses: (draws, candidates, objectives), all minimised.
    """
    return np.mean([pareto_front(draw) for draw in losses], axis=0)


def attainment(
    costs: FloatArray, accuracies: FloatArray, percents: Collection[float]
) -> FloatArray:
    """The accuracy that this percentage of the draws reach at a cost or below.

    costs: (candidates,), rising. accuracies: (draws, candidates). Returns (percents, candidates):
    attainment surfaces (moocore's empirical attainment function) read at the candidates' costs;
    they are steps from there to the next one.
    """
    draws, candidates = accuracies.shape
    points = np.column_stack([np.tile(costs, draws), -accuracies.reshape(-1)])
    sets = np.repeat(np.arange(draws), candidates)
    surfaces = moocore.eaf(points, sets, percentiles=list(percents))
    found = []
    for percent in percents:
        surface = surfaces[np.isclose(surfaces[:, 2], percent)]
        reached = np.where(surface[:, 0] <= costs[:, None], -surface[:, 1], -np.inf)
        found.append(reached.max(axis=1))
    return np.array(found)
