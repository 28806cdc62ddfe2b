import numpy as np
import pytest

from analysis.pareto.front import front_order, hypervolume, knee, pareto_front


def brute_force(losses):
    def dominated(row):
        return any((other <= row).all() and (other < row).any() for other in losses)

    return np.array([not dominated(row) for row in losses], dtype=bool)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(8))
def test_the_front_equals_a_brute_force_search_with_ties(objectives, seed):
    rng = np.random.default_rng(seed)
    losses = rng.integers(0, 6, size=(40, objectives)).astype(float)
    np.testing.assert_array_equal(pareto_front(losses), brute_force(losses))


def test_equal_rows_are_all_on_the_front():
    losses = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [2.0, 2.0]])
    assert pareto_front(losses).tolist() == [True, True, True, False]


def test_no_rows_have_an_empty_front():
    assert pareto_front(np.zeros((0, 2))).shape == (0,)
    assert front_order(np.zeros((0, 2))).shape == (0,)
    assert hypervolume(np.zeros((0, 2)), (1.0, 1.0)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("function", [pareto_front, front_order, knee])
def test_nan_and_infinity_are_refused(function, value):
    with pytest.raises(ValueError, match="finite"):
        function(np.array([[0.0, 1.0], [value, 0.0]]))


def test_losses_of_one_dimension_are_refused():
    with pytest.raises(ValueError, match=r"\(trials, objectives\)"):
        pareto_front(np.array([1.0, 2.0]))


@pytest.mark.parametrize("seed", range(5))
def test_the_hypervolume_of_two_objectives_is_the_area_under_the_staircase(seed):
    x = np.sort(np.random.default_rng(seed).random(20))
    y = np.sort(np.random.default_rng(seed + 100).random(20))[::-1]
    widths = np.diff(np.append(x, 1.5))
    expected = (widths * (2.0 - y)).sum()
    assert hypervolume(np.column_stack([x, y]), (1.5, 2.0)) == pytest.approx(expected)


def test_dominated_rows_and_rows_beyond_the_reference_add_no_hypervolume():
    losses = np.array([[0.0, 0.0], [0.5, 0.5], [2.0, -1.0]])
    assert hypervolume(losses, (1.0, 1.0)) == 1.0


@pytest.mark.parametrize("reference", [(1.0,), (1.0, np.nan), (1.0, 1.0, 1.0)])
def test_a_reference_that_does_not_fit_is_refused(reference):
    with pytest.raises(ValueError, match="reference"):
        hypervolume(np.array([[0.0, 0.0]]), reference)


def test_the_front_is_ordered_by_one_objective():
    losses = np.array([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0], [3.0, 3.0], [2.0, 2.0]])
    assert front_order(losses, by=1).tolist() == [0, 2, 4, 1]
    assert front_order(losses).tolist() == [1, 2, 4, 0]


def test_the_knee_is_the_point_farthest_from_the_line_between_the_extremes():
    losses = np.array([[0.0, 1.0], [0.1, 0.3], [0.4, 0.2], [1.0, 0.0], [1.0, 1.0]])
    assert knee(losses) == 1


def test_a_cost_that_spans_magnitudes_bends_elsewhere_on_a_log_axis():
    losses = np.array([[-0.5, 0.01], [-0.7, 0.02], [-0.95, 1.0], [-1.0, 10.0]])
    assert knee(losses) == 2
    assert knee(np.flip(losses, axis=0)) == 1
    steeper = np.array([[-0.5, 0.01], [-0.8, 0.1], [-0.9, 1.0], [-1.0, 10.0]])
    assert knee(steeper) == 2
    assert knee(steeper, log_columns=[1]) == 1


def test_the_knee_of_three_objectives_is_nearest_to_the_ideal_point():
    losses = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.4, 0.4, 0.4]])
    assert knee(losses) == 3


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([[2.0, 5.0]], 0),
        ([[2.0, 1.0], [1.0, 2.0]], 1),
        ([[1.0, 2.0], [1.0, 2.0]], 0),
        ([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]], 0),
        ([[3.0], [1.0], [2.0]], 1),
    ],
)
def test_degenerate_fronts_have_the_knee_that_the_docstring_promises(losses, expected):
    assert knee(np.array(losses)) == expected


def test_a_dominated_row_is_never_the_knee():
    rng = np.random.default_rng(3)
    for _ in range(50):
        losses = rng.random((12, 2))
        assert pareto_front(losses)[knee(losses)]


def test_there_is_no_knee_without_rows():
    with pytest.raises(ValueError, match="without a row"):
        knee(np.zeros((0, 2)))
