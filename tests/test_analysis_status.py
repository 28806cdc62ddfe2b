import io

import numpy as np
import pytest
from analysis_runs import four_trials, trial_row, write_run
from rich.console import Console

from analysis.choose import choose
from analysis.plots.front import front_figure
from analysis.report.facts import run_facts
from analysis.results.front_table import front_table
from analysis.results.hypervolume_trace import hypervolume_trace
from analysis.results.status import run_status, status_table, watch_view
from analysis.runs import read_run
from spaces.errors import UserError


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


def test_paused_trials_are_counted_and_go_on_with_a_resume(tmp_path):
    changes = {"state": "PAUSED", "epochs_trained": 2, "stop_reason": "gain: others gain more"}
    paused = read_run(write_run(tmp_path / "run", [trial_row(0, np.nan, 0.3, **changes)]))
    status = run_status(paused, searched=False)
    assert (status["paused"], status["running"], status["pruned"]) == (1, 0, 0)
    [trial] = status["paused_trials"]
    assert (trial["trial"], trial["epochs_trained"]) == (0, 2)
    assert trial["reason"] == "gain: others gain more"
    assert status["stopped"] == {}
    assert "--resume" not in printed(status_table(paused, searched=True))
    text = printed(status_table(paused, searched=False))
    assert "1 paused" in text
    assert "--resume" in text


def test_trials_without_a_driver_are_told_as_interrupted(run):
    searched = printed(status_table(run, searched=True))
    assert "1 running" in searched
    assert "--resume" not in searched
    left = printed(status_table(run, searched=False))
    assert "1 unfinished" in left
    assert "--resume" in left


def constrained(folder, bound):
    path = write_run(folder / "animals", four_trials())
    study = path / "study.yaml"
    study.write_text(study.read_text() + f"constraints: {{accuracy: '{bound}'}}\n")
    return read_run(path)


def test_the_front_has_only_trials_that_keep_the_bound_on_accuracy(tmp_path):
    run = constrained(tmp_path, ">= 0.65")
    assert run.front()["trial"].tolist() == [1, 2]
    assert choose(run, "cheapest").trial == 1
    assert "breaks accuracy>=0.65" in choose(run, "0").reason
    note = "2 of 4 finished trials break accuracy>=0.65"
    assert run_status(run, searched=False)["constraints"] == note
    assert note in printed(status_table(run, searched=False))
    assert note in " ".join(printed(front_table(run)).split())
    assert run_facts(run)["constraints"] == note
    view = front_figure(run).to_dict()["layout"]["meta"]["costs"]["gflops"]
    assert len(view["traces"][-1]["x"]) == 2


def test_a_run_where_no_trial_keeps_the_bound_says_so(tmp_path):
    run = constrained(tmp_path, ">= 0.99")
    note = (
        "none of 4 finished trials keeps accuracy>=0.99; trial 2 comes nearest with 95.0 % accuracy"
    )
    status = run_status(run, searched=False)
    assert (status["on_front"], status["constraints"]) == (0, note)
    assert note in printed(status_table(run, searched=False))
    watch_view(run, searched=False)
    for refused in (run.front, lambda: choose(run, "knee"), lambda: hypervolume_trace(run)):
        with pytest.raises(UserError, match="none of 4 finished trials keeps"):
            refused()
