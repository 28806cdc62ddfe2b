from pathlib import Path

import numpy as np
import pytest
from analysis_runs import many_trials, trial_row, write_run

from analysis.plots.hypervolume import draw_hypervolume_html, draw_hypervolume_png
from analysis.results.hypervolume_range import HypervolumeRange
from analysis.results.hypervolume_trace import hypervolume_trace
from analysis.results.report_data import find
from analysis.runs import read_run
from spaces.errors import UserError


def test_every_step_has_the_hypervolume_of_all_trials_up_to_it(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", many_trials(60)))
    history = hypervolume_trace(run)
    losses = run.losses()
    # By hand: accuracy from 0 (no classes are recorded), costs of the front by magnitude.
    accuracies, costs = -losses[:, 0], np.log10(losses[:, 1])
    front = run.losses_of(run.front())
    low, high = np.log10(front[:, 1]).min(), np.log10(front[:, 1]).max()
    places = np.clip((costs - low) / (high - low), 0, None)

    def dominated(count: int) -> float:
        grid = np.linspace(0, 1.1, 100_001)
        order = np.argsort(places[:count])
        best = np.maximum.accumulate(np.append(0.0, accuracies[:count][order]))
        return best[np.searchsorted(places[:count][order], grid, side="right")].mean()

    shares = np.array([dominated(count) for count in range(1, len(losses) + 1)])
    shares /= accuracies.max()
    np.testing.assert_allclose(history.hypervolumes, shares[history.finished - 1], atol=1e-4)
    grown = np.flatnonzero(np.diff(shares, prepend=0.0) > 1e-4) + 1
    assert set(grown) <= set(history.finished.tolist())
    assert history.num_finished == len(losses)


def test_trials_count_in_the_order_in_which_they_ended(tmp_path: Path):
    rows = [
        trial_row(0, 0.9, 0.1, search_seconds=30.0),
        trial_row(1, 0.5, 0.2, search_seconds=10.0),
        trial_row(2, 0.4, 0.3, search_seconds=20.0),
    ]
    history = hypervolume_trace(read_run(write_run(tmp_path / "run", rows)))
    assert history.finished.tolist() == [1, 3]  # trial 2 adds nothing
    assert history.seconds is not None
    assert history.seconds.tolist() == [10.0, 30.0]
    assert history.total_seconds == 30.0


def test_a_run_without_times_has_no_seconds(tmp_path: Path):
    rows = [trial_row(0, 0.9, 0.1, search_seconds=30.0), trial_row(1, 0.95, 0.2)]
    history = hypervolume_trace(read_run(write_run(tmp_path / "run", rows)))
    assert history.seconds is None
    assert history.total_seconds is None


def test_a_run_without_a_finished_trial_has_no_history(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", [trial_row(0, 0.9, 0.1, state="PRUNED")]))
    with pytest.raises(UserError, match="no finished trial yet"):
        hypervolume_trace(run)


def test_the_axis_says_what_the_hypervolume_is_measured_against(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", many_trials(60)))
    wanted = HypervolumeRange(reference_accuracy=0.25, cost_range=(0.01, 1.0))
    data = find(run, hypervolume_range=wanted)
    title = draw_hypervolume_html(data)["history-trials"].to_dict()["layout"]["yaxis"]["title"]
    assert title["text"].split("<br>") == [
        "hypervolume (%)",
        "accuracy above 25.0 % (as chosen)",
        "effective GFLOPs from 0.01 to 1",
    ]
    assert draw_hypervolume_png(data, tmp_path)[0].is_file()
