import io

import pytest
from analysis_runs import four_trials, write_run
from rich.console import Console

from analysis.results.status import run_status, status_table
from analysis.runs import read_run


@pytest.fixture
def run(tmp_path):
    return read_run(write_run(tmp_path / "animals", four_trials()))


def printed(table):
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_status_counts_trials_and_says_why_some_failed(run):
    status = run_status(run, searched=True)
    counts = {name: status[name] for name in ("complete", "pruned", "failed", "running")}
    assert counts == {"complete": 4, "pruned": 1, "failed": 1, "running": 1}
    assert status["trials"] == 7
    assert status["on_front"] == 3
    assert status["best_accuracy"] == 0.95
    assert list(status["failures"].values()) == [1]


def test_trials_without_a_driver_are_told_as_interrupted(run):
    searched = printed(status_table(run, searched=True))
    assert "1 running" in searched
    assert "--resume" not in searched
    left = printed(status_table(run, searched=False))
    assert "1 unfinished" in left
    assert "--resume" in left
