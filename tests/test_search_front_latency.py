import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from analysis_runs import trial_row, write_run

from analysis.runs import Run, read_run
from search.followups.front_latency import LATENCY_FILE, with_front_latency
from search.storage.run_lock import run_lock

SMALL = {"input_size": 48, "width": 0.125}


def small_run(folder: Path, **last) -> Run:
    """Two architectures on the front, and a dominated trial of the first."""
    rows = [
        trial_row(0, 0.5, 0.1, **SMALL),
        trial_row(1, 0.6, 0.2, **{**SMALL, "batch_norm": True, **last}),
        trial_row(2, 0.4, 0.1, **SMALL, optimizer="sgd"),
    ]
    path = write_run(folder, rows)
    study = yaml.safe_load((path / "study.yaml").read_text())
    study["provenance"] = {"num_classes": 4}
    (path / "study.yaml").write_text(yaml.safe_dump(study))
    return read_run(path)


def test_the_fronts_models_are_measured_once(tmp_path: Path):
    run = small_run(tmp_path / "run")
    told: list[str] = []
    measured, note = with_front_latency(run, tell=told.append)
    latencies = measured.trials["latency_ms"].to_numpy(dtype=float)
    assert (latencies > 0).all()
    assert latencies[0] == latencies[2] != latencies[1]
    assert told == [f"measuring latency: model {index} of 2" for index in (1, 2)]
    assert note.startswith("Latency: median of one image on one thread of ")
    assert "not measured" not in note
    assert len(next(iter(json.loads((run.path / LATENCY_FILE).read_text()).values()))) == 2
    again, same = with_front_latency(run, tell=lambda _: pytest.fail("measured again"))
    assert again.trials["latency_ms"].tolist() == latencies.tolist()
    assert same == note


def test_a_damaged_file_of_latencies_is_measured_anew(tmp_path: Path):
    run = small_run(tmp_path / "run", model="no_such_model", width=1.0, batch_norm=False)
    (run.path / LATENCY_FILE).parent.mkdir()
    (run.path / LATENCY_FILE).write_text("[1, ")
    measured, _ = with_front_latency(run)
    assert measured.trials["latency_ms"].notna().tolist() == [True, False, True]


def test_models_that_can_not_be_built_are_named_and_left_out(tmp_path: Path):
    measured, note = with_front_latency(
        small_run(tmp_path / "run", model="no_such_model", width=1.0, batch_norm=False)
    )
    assert np.isnan(measured.trials["latency_ms"].iloc[1])
    assert "Latency was not measured: trial 1: " in note
    assert "no_such_model" in note


def test_recipes_that_are_no_longer_valid_are_named_and_left_out(tmp_path: Path):
    measured, note = with_front_latency(small_run(tmp_path / "run", batch_size=-1))
    assert measured.trials["latency_ms"].notna().tolist() == [True, False, True]
    assert "Latency was not measured: trial 1: batch_size: -1 should be" in note


def test_a_search_at_work_is_not_disturbed(tmp_path: Path):
    run = small_run(tmp_path / "run")
    lock = run_lock(run.path)
    Path(lock.lock_file).parent.mkdir()
    with lock:
        measured, note = with_front_latency(run)
    assert np.isnan(measured.trials["latency_ms"].to_numpy(dtype=float)).all()
    assert note == "Latency was not measured: a search is running, and would disturb it."


def test_a_run_of_an_unknown_number_of_classes_says_so(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", [trial_row(0, 0.5, 0.1, **SMALL)]))
    measured, note = with_front_latency(run)
    assert np.isnan(measured.trials["latency_ms"].to_numpy(dtype=float)).all()
    assert "how many classes" in note


def test_latencies_of_the_search_are_kept(tmp_path: Path):
    rows = [trial_row(0, 0.5, 0.1, latency_ms=3.0, **SMALL), trial_row(1, 0.4, 0.1, **SMALL)]
    run = read_run(write_run(tmp_path / "run", rows))
    measured, note = with_front_latency(run)
    assert measured is run
    assert "measured by the search" in note


def test_the_report_measures_unless_told_not_to(tmp_path: Path, flopwise):
    run = small_run(tmp_path / "run")
    code, output, complaint = flopwise("report", run.path, "--no-latency")
    assert code == 0, complaint
    assert "Latency" not in output
    assert not (run.path / LATENCY_FILE).exists()
    assert "<th>latency (ms)</th>" not in (run.path / "report.html").read_text()
    code, output, complaint = flopwise("report", run.path)
    assert code == 0, complaint
    assert "Latency: median of one image on one thread of " in output
    assert "<th>latency (ms)</th>" in (run.path / "report.html").read_text()
