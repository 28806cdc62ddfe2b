from pathlib import Path

import numpy as np
import pytest
from analysis_runs import trial_row, write_run

from analysis.results.parallel import Scale, parallel_scales
from analysis.runs import read_run


@pytest.fixture
def scales(tmp_path: Path) -> dict[str, Scale]:
    rows = [
        trial_row(
            trial, 0.5 + trial / 100, 0.01 * 2**trial, learning_rate=10 ** (-4 + trial / 4),
            model=["baseline_cnn", "mobilenet_v2"][trial % 2], unfrozen=[None, 2, 8][trial % 3],
            input_size=[96, 64][trial % 2], seed=trial,
        )
        for trial in range(9)
    ]  # fmt: skip
    run = read_run(write_run(tmp_path / "run", rows))
    return {scale.column: scale for scale in parallel_scales(run)}


def test_fields_that_differ_come_first_then_costs_and_accuracy_last(scales: dict[str, Scale]):
    expected = ["model", "input_size", "unfrozen", "learning_rate", "effective_gflops", "accuracy"]
    assert list(scales) == expected


def test_words_and_few_numbers_get_a_place_each(scales: dict[str, Scale]):
    assert scales["input_size"].tick_labels == ["64", "96"]
    assert scales["input_size"].positions[:2].tolist() == [1.0, 0.0]
    assert scales["unfrozen"].tick_labels == ["2", "8", "all"]
    assert scales["unfrozen"].positions[:3].tolist() == [2.0, 0.0, 1.0]


def test_numbers_far_apart_lie_by_their_magnitude(scales: dict[str, Scale]):
    np.testing.assert_allclose(scales["learning_rate"].positions, [-4 + t / 4 for t in range(9)])
    assert scales["learning_rate"].tick_labels[0] == "0.0001"
    assert scales["accuracy"].ends == (0.5, pytest.approx(0.58))
    assert scales["accuracy"].tick_labels[-1] == "58.0"


def test_every_trial_lies_within_the_ends_of_every_axis(scales: dict[str, Scale]):
    for scale in scales.values():
        low, high = scale.ends
        assert (scale.positions >= low).all()
        assert (scale.positions <= high).all()
        assert low < high
        assert len(scale.tick_positions) == len(scale.tick_labels)


def test_long_names_are_cut_in_their_middle(tmp_path: Path):
    weights = ["/w/mobilenet_v2_features_imagenet.pt", "/w/mobilenet_v2_features_animals.pt"]
    rows = [
        trial_row(trial, 0.5 + trial / 10, 0.1, weights=path) for trial, path in enumerate(weights)
    ]
    scales = parallel_scales(read_run(write_run(tmp_path / "run", rows)))
    assert scales[0].tick_labels == ["mobile…imals", "mobile…genet"]
