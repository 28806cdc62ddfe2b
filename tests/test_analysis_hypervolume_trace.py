from pathlib import Path

import numpy as np
import pytest
from analysis_runs import many_trials, trial_row, write_run

from analysis.pareto.front import Box
from analysis.results.hypervolume_trace import hypervolume_trace
from analysis.runs import read_run
from spaces.errors import UserError


def test_every_step_has_the_hypervolume_of_all_trials_up_to_it(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", many_trials(60)))
    history = hypervolume_trace(run)
    losses = run.losses()
    box = Box.around(losses, run.objectives.log_columns)
    shares = np.array(
        [box.normalized_hypervolume(losses[:count]) for count in range(1, len(losses) + 1)]
    )
    grown = np.flatnonzero(np.diff(shares, prepend=0.0) > 1e-12) + 1
    np.testing.assert_array_equal(history.finished, grown)
    np.testing.assert_allclose(history.hypervolumes, shares[grown - 1])
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
