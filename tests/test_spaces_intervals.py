import numpy as np
import pytest
from scipy import stats

from spaces.intervals import Interval, wilson_interval


@pytest.mark.parametrize(("right", "images"), [(0, 20), (1, 20), (8, 10), (366, 450), (450, 450)])
def test_the_interval_of_an_accuracy_is_wilsons(right: int, images: int):
    expected = stats.binomtest(right, images).proportion_ci(0.95, method="wilson")
    found = wilson_interval(right / images, images)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.mean == right / images
    assert 0 <= found.low <= found.high <= 1


def test_it_holds_the_truth_in_19_of_20_cases():
    rng = np.random.default_rng(0)
    rights = rng.binomial(450, 0.8, 2000)
    held = [wilson_interval(right / 450, 450) for right in rights]
    assert 0.93 < np.mean([one.low <= 0.8 <= one.high for one in held]) < 0.97


def test_it_is_written_in_percent():
    interval = Interval(mean=0.813, low=0.7791, high=0.84349)
    assert interval.write_percent() == "81.3 (77.9 to 84.3)"
