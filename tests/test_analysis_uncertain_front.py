import numpy as np
import pytest
from scipy import stats

from analysis.pareto.front import Box, hypervolume, pareto_front
from analysis.pareto.uncertain_front import (
    attainment,
    draw_accuracies,
    front_shares,
    most_contributing,
)


def predictions(right, images=400, seeds=3):
    return np.tile(np.isin(np.arange(images), right), (seeds, 1))


@pytest.mark.parametrize("objectives", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_the_most_contributing_rows_are_those_without_which_most_is_lost(objectives, seed):
    losses = np.random.default_rng(seed).random((60, objectives))
    losses = losses[pareto_front(losses)]
    box = Box.around(losses)

    def volume(rows):
        return hypervolume(box.scale(rows), np.full(objectives, 1.1))

    lost = [volume(losses) - volume(np.delete(losses, row, axis=0)) for row in range(len(losses))]
    for count in (1, 3, 5):
        expected = sorted(np.argsort(lost)[::-1][:count])
        assert most_contributing(losses, box, count).tolist() == expected


def test_with_one_objective_the_best_row_is_all_there_is():
    losses = np.array([[0.3], [0.1], [0.2], [0.1]])
    assert most_contributing(losses, Box.around(losses), 1).tolist() == [1]


def test_of_equal_rows_the_first_counts_and_comes_before_what_adds_nothing():
    losses = np.array([[0.0, 1.0], [0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    box = Box.around(losses)
    assert most_contributing(losses, box, 3).tolist() == [0, 1, 3]
    assert most_contributing(losses, box, 4).tolist() == [0, 1, 2, 3]
    assert most_contributing(losses[1:3], Box.around(losses), 1).tolist() == [0]


def test_draws_of_images_spread_as_a_share_of_them_does():
    drawn = draw_accuracies([predictions(range(100))], draws=4000)
    assert drawn.shape == (4000, 1)
    assert drawn.mean() == pytest.approx(0.25, abs=2e-3)
    assert drawn.std() == pytest.approx(np.sqrt(0.25 * 0.75 / 400), rel=0.05)


def test_draws_take_the_same_images_for_all_candidates():
    same = predictions(range(100))
    others = predictions(range(100, 200))
    drawn = draw_accuracies([same, same, others], draws=500)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    # Of images that are right for one or for the other, more for one are fewer for the other.
    assert np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1] < -0.2


def test_draws_of_seeds_spread_by_students_t():
    # Each image is right in one of two seeds, so that draws of images say nothing.
    correct = np.stack([np.ones(50, dtype=bool), np.zeros(50, dtype=bool)])
    drawn = draw_accuracies([correct], draws=40_000)[:, 0]
    for share in (0.3, 0.4, 0.6, 0.7):
        expected = 0.5 + 0.5 * stats.t.ppf(share, 1)
        assert np.quantile(drawn, share) == pytest.approx(expected, abs=0.02)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_the_same_seed_gives_the_same_draws():
    correct = [predictions(range(100)), predictions(range(50, 250))]
    one, two = (draw_accuracies(correct, draws=150, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert (one != draw_accuracies(correct, draws=150, seed=4)).any()


def test_a_candidate_is_on_the_front_in_as_many_draws_as_none_dominates_it():
    # Cheapest and worst; dearer and better; dearest and, in every other draw, better still.
    cheap, expensive, dearest = [1.0, -0.5], [2.0, -0.7], [3.0, -0.6]
    better = [3.0, -0.8]
    losses = np.array([[cheap, expensive, dearest], [cheap, expensive, better]] * 5)
    np.testing.assert_array_equal(front_shares(losses), [1, 1, 0.5])


def test_equally_good_candidates_of_different_cost_share_the_front():
    drawn = draw_accuracies([predictions(range(0, 200, 2)), predictions(range(1, 200, 2))])
    costs = np.broadcast_to([1.0, 2.0], drawn.shape)
    cheap, expensive = front_shares(np.stack([costs, -drawn], axis=2))
    assert cheap == 1
    assert 0.4 < expensive < 0.6


def test_attainment_is_the_percentile_of_the_best_accuracy_so_far():
    random = np.random.default_rng(0)
    costs = np.array([0.1, 0.2, 0.4, 1.0, 5.0])
    accuracies = random.random((400, 5)) * [0.6, 0.7, 0.5, 0.9, 1.0]
    best = np.maximum.accumulate(accuracies, axis=1)
    percents = (2.5, 25, 50, 97.5)
    found = attainment(costs, accuracies, percents)
    for row, percent in zip(found, percents, strict=True):
        # So many percent of the draws reach it, and no higher accuracy is reached by as many.
        np.testing.assert_array_equal((best >= row).mean(axis=0) * 100, [percent] * 5)
