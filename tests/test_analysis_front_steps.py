from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analysis_runs import four_trials, trial_row, write_run
from made_up_reports import confirmed, timed_run

from analysis.results.front_steps import describe_step, front_steps
from analysis.runs import Run, read_run


def with_images(run: Run, validation: int) -> Run:
    return replace(
        run, study=run.study | {"provenance": {"num_images": {"validation": validation}}}
    )


def test_neighbours_on_the_front_are_compared_in_a_sentence(tmp_path: Path):
    run = with_images(read_run(write_run(tmp_path / "run", four_trials())), 450)
    first, second = front_steps(run)
    assert (first.trial, first.next_trial, second.trial, second.next_trial) == (0, 1, 1, 2)
    # Wilson's intervals of 270, 405 and 427.5 of 450.
    assert describe_step(first) == (
        "30.0 points more for 2 x the effective GFLOPs; the 95 % intervals do not overlap"
        " (55.4 to 64.4 %, 86.9 to 92.4 %)"
    )
    assert describe_step(second) == (
        "5.0 points more for 10 x the effective GFLOPs; the 95 % intervals do not overlap"
        " (86.9 to 92.4 %, 92.6 to 96.7 %)"
    )


def test_intervals_of_few_images_overlap_and_of_unknown_ones_are_left_out(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", four_trials()))
    assert describe_step(front_steps(run)[1]) == "5.0 points more for 10 x the effective GFLOPs"
    assert "intervals overlap (" in describe_step(front_steps(with_images(run, 60))[1])


def test_latency_and_each_cost_are_compared_and_less_is_said_as_less(tmp_path: Path):
    rows = [
        trial_row(0, 0.80, 0.10, latency_ms=1.0, size_mb=9.0),
        trial_row(1, 0.79, 0.105, latency_ms=1.5, size_mb=3.0),
    ]
    objectives = {"accuracy": "max", "effective_gflops": "min", "size_mb": "min"}
    run = read_run(write_run(tmp_path / "run", rows, objectives))
    assert [describe_step(step) for step in front_steps(run)] == [
        "1.0 points less for 5 % more effective GFLOPs and 0.33 x the size and 1.5 x the latency"
    ]


def test_trials_with_equal_numbers_are_one_step(tmp_path: Path):
    rows = [
        trial_row(0, 0.5, 0.1),
        trial_row(1, 0.5, 0.1, optimizer="sgd"),
        trial_row(2, 0.6, 0.2),
    ]
    run = read_run(write_run(tmp_path / "run", rows))
    assert len(run.front()) == 3
    assert [(step.trial, step.next_trial) for step in front_steps(run)] == [(0, 2)]


def test_confirmed_trials_are_compared_by_the_test_split(tmp_path: Path):
    run = timed_run(tmp_path)
    confirmation = confirmed(run)
    steps = front_steps(run, confirmation)
    means = [accuracy.mean for accuracy in confirmation.accuracies]
    assert [step.gain for step in steps] == pytest.approx(list(np.diff(means)))
    assert all("on the test split" in describe_step(step) for step in steps)
