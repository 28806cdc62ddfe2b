from pathlib import Path

import numpy as np
from analysis_runs import four_trials, trial_row, write_run

from analysis.results.all_trials import trial_list
from analysis.results.time_spent import time_cells, time_spent, trial_outcomes
from analysis.runs import read_run

NEVER = {"state": "PRUNED", "error": "size_mb is 44.7", "epochs_trained": 0, "seconds": None}


def test_each_trial_has_one_outcome_and_the_seconds_add_up(tmp_path: Path):
    run = read_run(
        write_run(tmp_path / "run", [*four_trials(), trial_row(7, np.nan, 1.0, **NEVER)])
    )
    assert trial_outcomes(run) == [
        *("on the front", "on the front", "on the front", "off the front", "stopped early"),
        *("failed", "unfinished", "not begun"),
    ]
    spent = time_spent(run)
    assert spent.models == ("baseline_cnn", "mobilenet_v2", "resnet18")
    assert spent.outcomes == (
        *("on the front", "off the front", "stopped early", "not begun", "failed", "unfinished"),
    )
    assert spent.seconds.sum() == 7 * 12.5
    assert spent.trials.tolist() == [[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    rows = time_cells(spent)
    assert rows[1] == ["mobilenet_v2", "12 s (1)", "–", "–", "–", "–", "–", "12 s (1)"]
    assert rows[-1][:2] == ["all", "38 s (3)"]
    assert rows[-1][-1] == "88 s (8)"


def test_paused_trials_are_an_outcome_of_their_own(tmp_path: Path):
    rows = [trial_row(0, np.nan, 0.1, state=state) for state in ("RUNNING", "PAUSED")]
    assert trial_outcomes(read_run(write_run(tmp_path / "run", rows))) == ["unfinished", "paused"]


def test_a_run_without_a_finished_trial_spends_time_too(tmp_path: Path):
    rows = [trial_row(0, np.nan, 0.1, state="FAIL", error="loss is NaN")]
    assert time_spent(read_run(write_run(tmp_path / "run", rows))).outcomes == ("failed",)


def test_the_list_of_trials_has_the_last_accuracy_and_the_reason(tmp_path: Path):
    rows = [
        trial_row(0, 0.6, 0.05),
        trial_row(1, np.nan, 0.3, state="PRUNED", epochs_trained=2, stop_reason="rung 2: x"),
        trial_row(
            2, np.nan, 0.3, effective_gflops=None, state="FAIL", error="loss is NaN\nin epoch 2"
        ),
    ]
    listed = trial_list(read_run(write_run(tmp_path / "run", rows)))
    columns = listed["columns"]
    assert columns == [
        *("trial", "outcome", "accuracy (%)", "effective GFLOPs", "epochs", "seconds"),
        *("recipe", "why it ended"),
    ]
    cells = [dict(zip(columns, row, strict=True)) for row in listed["rows"]]
    # The made-up epochs all have 0.5.
    assert [row["accuracy (%)"] for row in cells] == [60, 50, 50]
    assert [row["why it ended"] for row in cells] == [None, "rung 2: x", "loss is NaN"]
    assert cells[2]["effective GFLOPs"] is None
