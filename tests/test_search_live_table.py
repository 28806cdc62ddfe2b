import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from rich.console import Console
from searches import metrics, write_study

from search.commands.live_table import LiveTable, clock, render
from search.commands.time_left import time_left
from search.decisions.ledger import Ledger, open_ledger
from search.decisions.proposals import Proposals
from search.decisions.stopping import StoppingRule
from search.decisions.trial_record import TrialRecord
from search.engine import Progress
from search.storage.optuna_storage import create_study
from search.study.study import Study, load_study
from spaces.constraints import read_study_constraint
from trainables.cost import recipe_cost
from trainables.costing.effort import Effort, SharedWork
from trainables.data.dataset import ImageData


@pytest.fixture
def study(demo_data: ImageData, tmp_path: Path) -> Study:
    space = {"learning_rate": {"log": [1e-4, 1e-1]}, "input_size": 48, "epochs": 2}
    changes = {"budget": {"trials": 6}, "early_stopping": {"name": "none"}}
    return load_study(write_study(tmp_path, demo_data, space=space, **changes))


@pytest.fixture
def ledger(study: Study, tmp_path: Path) -> Ledger:
    """Two trials complete, one failed, one running at its first epoch."""
    ledger = empty_ledger(study, tmp_path, "live")
    records = [asked(ledger) for _ in range(4)]
    for number, accuracy in ((0, 0.5), (1, 0.75)):
        records[number].add_epochs(
            [metrics(1, 0.1, seconds=10.0), metrics(2, accuracy, seconds=10.0)]
        )
        ledger.complete(number)
    ledger.fail(2, "out of memory: 12 GB")
    records[3].add_epochs([metrics(1, 0.33, seconds=10.0)])
    return ledger


def empty_ledger(study: Study, folder: Path, name: str) -> Ledger:
    return open_ledger(
        create_study(folder, name, study.objectives.optuna_directions),
        Proposals(space=study.space, objectives=study.objectives, sampler="random", seed=0),
        rule=StoppingRule(),
        measure=lambda recipe: recipe_cost(recipe, 3),
    )


def asked(ledger: Ledger) -> TrialRecord:
    record = ledger.propose()
    assert record is not None
    return record


def progress(study: Study, ledger: Ledger, **changes: Any) -> Progress:
    settings = {"num_workers": 2, "seconds": 61.0, "stopping": False, **changes}
    return Progress(study=study, ledger=ledger, **settings)


def printed(view: Any) -> str:
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_the_table_shows_what_runs_what_finished_the_front_and_the_time(
    study: Study, ledger: Ledger
):
    latest = ledger.in_state(TrialState.COMPLETE, TrialState.FAIL)
    text = printed(render(progress(study, ledger), latest))
    for words in (
        "tiny: 4 of 6 trials (2 complete, 1 failed, 1 running), 1:01, about 0:25 left",
        "1/2",
        "33.0%",
        "out of memory: 12 GB",
        "75.0",
        "finished last",
        "effective GFLOPs",
    ):
        assert words in text


def test_the_table_names_what_a_trial_does_while_it_ends_no_epoch(study: Study, ledger: Ledger):
    text = printed(render(progress(study, ledger, phases={3: "computing frozen features"}), []))
    assert "computing frozen features" in text
    assert "33.0%" not in text


def test_a_trial_that_goes_on_shows_what_an_earlier_session_knew(study: Study, ledger: Ledger):
    [running] = ledger.in_state(TrialState.RUNNING)
    before = ledger.worker_seconds
    running.earlier_epochs, running.epochs = running.epochs, []
    assert "33.0%" in printed(render(progress(study, ledger), []))
    assert ledger.worker_seconds == before
    ledger.report(running.number, [metrics(1, 0.5)])
    assert "50.0%" in printed(render(progress(study, ledger), []))


def test_paused_trials_are_only_counted(study: Study, ledger: Ledger):
    ledger.pause(3, "later", checkpoint="tune/3")
    text = printed(render(progress(study, ledger), []))
    assert "(2 complete, 1 failed, 1 paused)" in text
    assert "33.0%" not in text


def test_the_table_says_that_it_is_stopping(study: Study, ledger: Ledger):
    assert "stopping" in printed(render(progress(study, ledger, stopping=True), []))


def test_time_left_follows_from_what_trials_took(study: Study, ledger: Ledger):
    # One epoch of a trial that runs, and two new trials at 20 s each, on two workers.
    assert time_left(progress(study, ledger)) == pytest.approx(25.0)
    ledger.pause(3, "later", checkpoint="tune/3")
    # It is left out, and the 10 s that it took count among what a trial takes.
    assert time_left(progress(study, ledger)) == pytest.approx(2 * (50 / 3) / 2)


def test_before_the_first_epoch_time_left_follows_from_arithmetic_alone(
    study: Study, tmp_path: Path
):
    ledger = empty_ledger(study, tmp_path, "first")
    effort = Effort(epoch=3.0, int8_end=1.0, shared=(SharedWork(name="features", seconds=30.0),))

    def left() -> float | None:
        return time_left(progress(study, ledger, effort=lambda _: effort))

    assert left() is None
    records = [asked(ledger), asked(ledger)]
    # The first trial computes features for all: until it ends, the five others fit beside it.
    assert left() == pytest.approx(30 + 7)
    # This machine takes twice the foretold seconds, and the features are there.
    ledger.report(records[1].number, [metrics(1, 0.5, seconds=6.0)])
    assert left() == pytest.approx((14 + 8 + 4 * 14) / 2)


def test_time_left_is_at_least_that_of_the_longest_trial(study: Study, ledger: Ledger):
    only_running = replace(study, budget=replace(study.budget, trials=4))
    assert time_left(progress(only_running, ledger, num_workers=16)) == pytest.approx(10.0)


def test_no_more_time_is_left_than_the_clock_allows(study: Study, ledger: Ledger):
    short = replace(study, budget=replace(study.budget, hours=70 / 3600))
    assert time_left(progress(short, ledger)) == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("seconds", "message"), [(0, "0:00"), (61, "1:01"), (3600, "1:00:00"), (-5, "0:00")]
)
def test_clocks_read_as_clocks(seconds: float, message: str):
    assert clock(seconds) == message


def test_what_was_finished_before_a_resume_is_no_news(study: Study, ledger: Ledger):
    file = io.StringIO()
    with LiveTable(Console(file=file, width=200)) as live:
        live.show(progress(study, ledger))
    assert file.getvalue() == ""


def test_many_trials_that_did_not_begin_are_one_line(study: Study, tmp_path: Path):
    bound = read_study_constraint("gflops", "<= 0.0001")
    strict = replace(study, objectives=replace(study.objectives, constraints=(bound,)))
    ledger = empty_ledger(strict, tmp_path, "strict")
    file = io.StringIO()
    with LiveTable(Console(file=file, width=200)) as live:
        live.show(progress(strict, ledger))
        for _ in range(30):
            assert ledger.propose() is None
        live.show(progress(strict, ledger))
        assert ledger.propose() is None
        live.show(progress(strict, ledger))
    many, one = file.getvalue().splitlines()
    assert "30 trials, 0 to 29: not begun; the last: constraint gflops<=0.0001: it is" in many
    assert "trial 30" in one


def test_without_a_terminal_every_finished_trial_is_one_line_once(
    study: Study, ledger: Ledger, tmp_path: Path
):
    file = io.StringIO()
    before = empty_ledger(study, tmp_path, "before")
    with LiveTable(Console(file=file, width=200)) as live:
        live.show(progress(study, before))
        live.show(progress(study, ledger))
        live.show(progress(study, ledger))
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    assert "trial 1" in lines[1]
    assert "75.0%" in lines[1]
    assert "failed: out of memory: 12 GB" in lines[2]
