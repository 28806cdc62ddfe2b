import numpy as np
import pytest
from scipy import special, stats

from analysis.pareto.intervals import (
    accuracy_interval,
    difference,
    images_margin,
    mean_over_groups,
)


def predictions(right, images, seeds=3):
    """(seeds, images): every seed is right on the same images."""
    return np.tile(np.arange(images) < right, (seeds, 1))


def one_group(values):
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return (low, high)


@pytest.mark.parametrize(("right", "images"), [(8, 10), (400, 450), (450, 450), (0, 30)])
def test_seeds_that_agree_leave_the_error_of_the_images(right, images):
    found = accuracy_interval(predictions(right, images))
    wilson = stats.binomtest(right, images).proportion_ci(method="wilson")
    assert found.mean == right / images
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))


def test_many_images_leave_the_error_of_the_seeds():
    # 40, 50 and 60 % of so many images that these have no error to speak of.
    correct = np.stack([np.arange(1_000_000) % 10 < tenths for tenths in (4, 5, 6)])
    found = accuracy_interval(correct)
    low, high = one_group([0.4, 0.5, 0.6])
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-4)


def test_both_errors_are_added_by_their_squares():
    correct = np.stack([np.arange(200) < right for right in (90, 100, 110)])
    found = accuracy_interval(correct)
    half = one_group([0.45, 0.5, 0.55])[1] - 0.5
    shares = correct.mean(axis=0)
    wilson = stats.binomtest(500, 1000).proportion_ci(method="wilson")
    count = 200 * 0.25 / np.var(shares)
    images = (wilson.high - 0.5) * np.sqrt((1000 + special.ndtri(0.975) ** 2) / (count + 3.8415))
    assert found.high - 0.5 == pytest.approx(np.hypot(half, images), rel=1e-3)
    assert 0.5 - found.low == pytest.approx(np.hypot(half, images), rel=1e-3)


def test_an_interval_stays_between_0_and_1():
    correct = np.stack([np.arange(20) < right for right in (20, 20, 16)])
    found = accuracy_interval(correct)
    assert found.high == 1.0
    assert 0 <= found.low < found.mean


@pytest.mark.parametrize(("of_seeds", "of_images"), [(0.0, 1.5), (0.3, 1.5), (0.6, 0.5)])
def test_intervals_hold_the_truth_as_often_as_they_say(of_seeds, of_images):
    """Seeds and images make a question easier or harder; the truth is over all of both."""
    random = np.random.default_rng(0)
    centre = 0.8
    many = random.normal(0, np.hypot(of_seeds, of_images), 1_000_000)
    truth = special.expit(centre + many).mean()
    held = []
    for _ in range(600):
        logits = centre + random.normal(0, of_seeds, (3, 1)) + random.normal(0, of_images, (1, 150))
        found = accuracy_interval(random.random((3, 150)) < special.expit(logits))
        held.append(found.low <= truth <= found.high)
    assert 0.94 <= np.mean(held) <= 0.999


def test_the_mean_of_one_group_is_students():
    values = np.array([0.1, 0.4, 0.3, 0.9])
    found = mean_over_groups([values])
    assert (found.low, found.high) == pytest.approx(one_group(values))


def test_groups_of_equal_spread_add_their_degrees_of_freedom():
    groups = [np.array([0.0, 1.0, 2.0]) + shift for shift in (0, 10, 20, 30)]
    found = mean_over_groups(groups)
    half = stats.t.ppf(0.975, 4 * 2) * np.sqrt(4 * (1 / 3)) / 4
    assert found.mean == 16
    assert found.high - found.mean == pytest.approx(half)


def test_another_error_is_added_by_its_square():
    groups = [np.array([0.0, 1.0, 2.0])]
    alone = mean_over_groups(groups)
    both = mean_over_groups(groups, other_margin=3.0)
    assert both.high - 1 == pytest.approx(np.hypot(alone.high - 1, 3.0))


def test_groups_without_a_spread_have_no_interval_of_their_own():
    found = mean_over_groups([np.array([1.0, 1.0]), np.array([2.0, 2.0, 2.0])])
    assert (found.low, found.mean, found.high) == (1.5, 1.5, 1.5)


def test_a_difference_is_welchs():
    random = np.random.default_rng(1)
    one, other = random.normal(1, 1, 5), random.normal(0, 3, 4)
    found = difference(one, other)
    expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.holds_zero == (expected.low <= 0 <= expected.high)


def test_the_margin_of_images_is_that_of_their_mean():
    shares = np.array([0.0, 1.0] * 200)
    assert images_margin(shares) == pytest.approx(1.96 * 0.5 / 20, rel=2e-3)
