"""Paused trials in whole searches: Ray Tune, checkpoints, the run folder, interruptions."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pausing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState
from pausing import HALFWAY, HalfwayRule
from searches import DyingInSave, write_study

from analysis.runs import run_recipe
from search.decisions.stopping import StoppingContext, StoppingRule
from search.decisions.stopping_rules import STOPPING_RULES
from search.decisions.trial_record import TrialRecord
from search.engine import Progress, run_search
from search.storage.optuna_storage import read_trials
from search.storage.run_folder import is_over
from search.study.study import Study, load_study
from trainables.data.dataset import ImageData, open_data
from trainables.training import train

NUM_TRIALS = 6
EPOCHS = 4
SPACE: dict[str, Any] = {
    "input_size": [48, 64],
    "width": [0.1, 0.125, 0.15],
    "batch_size": [16, 32],
    "learning_rate": {"log": [1.0e-3, 1.0e-2]},
    "epochs": EPOCHS,
}


class HopelessRule(HalfwayRule):
    """Pauses every trial halfway, and lets none go on."""

    def give_up(self, paused, context) -> dict[int, str]:
        return {}

    def resume(
        self, paused: Collection[TrialRecord], context: StoppingContext, *, may_begin: bool
    ) -> TrialRecord | None:
        return None


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Callable[[], StoppingRule]] = {HALFWAY: HalfwayRule, "hopeless": HopelessRule}
    for name, rule in made.items():
        monkeypatch.setitem(STOPPING_RULES, name, lambda _settings, _objectives, rule=rule: rule())


def study_of(folder: Path, data: ImageData, *, rule: str = HALFWAY, **changes: Any) -> Study:
    settings = {"space": SPACE, "dominated": "keep", "budget": {"trials": NUM_TRIALS}, **changes}
    folder.mkdir(exist_ok=True)
    return load_study(write_study(folder, data, early_stopping={"name": rule}, **settings))


def rows_of(folder: Path, table: str = "trials") -> list[dict[str, Any]]:
    return pq.read_table(pa.BufferReader((folder / f"{table}.parquet").read_bytes())).to_pylist()


def in_state(rows: list[dict[str, Any]], *states: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["state"] in states]


def saved(folder: Path) -> set[Path]:
    """The checkpoints on the disk."""
    return {path.parent.relative_to(folder) for path in folder.glob("tune/*/*/*/training.pt")}


def named(rows: list[dict[str, Any]]) -> set[Path]:
    return {Path(row["checkpoint"]) for row in rows if row["checkpoint"]}


def check_epochs(folder: Path) -> None:
    """Every epoch of every trial is there once."""
    keys = sorted((row["trial"], row["epoch"]) for row in rows_of(folder, "epochs"))
    expected = [
        (row["trial"], epoch)
        for row in rows_of(folder)
        for epoch in range(1, row["epochs_trained"] + 1)
    ]
    assert keys == expected


def check_accuracies(folder: Path, data: ImageData, *, most: int = 2) -> None:
    """Trials that were paused come out as if they had been trained in one go."""
    complete = in_state(rows_of(folder), "COMPLETE")[:most]
    assert complete
    for row in complete:
        curve = [e["accuracy"] for e in rows_of(folder, "epochs") if e["trial"] == row["trial"]]
        again = train(run_recipe(row), data, lambda _: None)
        assert curve == [metrics.accuracy for metrics in again.history]


def test_paused_trials_free_their_workers_and_go_on_from_their_checkpoints(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study = study_of(tmp_path, demo_data)
    paused: list[set[int]] = []
    on_disk: list[bool] = []

    def show(progress: Progress) -> None:
        paused.append(set(progress.ledger.paused))
        for record in progress.ledger.paused.values():
            assert record.checkpoint is not None
            folder = study.folder / record.checkpoint
            on_disk.append((folder / "training.pt").exists())

    result = run_search(study, show=show)
    assert result.ending == "trials"
    assert max(map(len, paused)) >= 1
    assert all(on_disk)
    assert not result.ledger.paused
    trials = rows_of(result.folder)
    assert len(trials) == 6
    complete, given_up = in_state(trials, "COMPLETE"), in_state(trials, "PRUNED")
    assert [row["trial"] for row in complete] == [0, 1, 3, 4]
    assert [row["trial"] for row in given_up] == [2, 5]
    assert {row["epochs_trained"] for row in complete} == {EPOCHS}
    assert {row["epochs_trained"] for row in given_up} == {EPOCHS // 2}
    assert {row["stop_reason"] for row in given_up} == {"third: no hope"}
    assert saved(result.folder) == named(complete) == named(trials)
    check_epochs(result.folder)
    check_accuracies(result.folder, demo_data)


def test_trials_that_are_paused_when_the_search_ends_are_given_up_with_what_ended_it(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study = study_of(tmp_path, demo_data, rule="hopeless", budget={"trials": 3})
    seen: list[dict[str, Any]] = []

    def show(progress: Progress) -> None:
        if len(progress.ledger.paused) == 3 and not seen:
            seen.extend(rows_of(study.folder))

    result = run_search(study, show=show)
    trials = rows_of(result.folder)
    assert [row["state"] for row in trials] == ["PRUNED"] * 3
    reason = "still paused at the end: the trials of the budget are used up"
    assert {row["stop_reason"] for row in trials} == {reason}
    assert [trial.state for trial in read_trials(study.folder)] == [TrialState.PRUNED] * 3
    assert saved(result.folder) == set()
    assert is_over(study)


def test_a_space_that_is_used_up_still_lets_paused_trials_go_on(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    space = {**SPACE, "width": [0.1, 0.125], "batch_size": 16, "input_size": 48}
    space["learning_rate"] = 3.0e-3
    study = study_of(tmp_path, demo_data, space=space, budget={"hours": 1.0})
    result = run_search(study)
    assert result.ending == "exhausted"
    trained = [row for row in rows_of(result.folder) if row["seconds"]]
    assert len(trained) == 2
    # Both recipes were paused, and went on after 200 proposals in a row had not begun.
    assert {row["epochs_trained"] for row in trained} == {EPOCHS}
    assert len(rows_of(result.folder)) < 2 * 200 + 50


def test_a_trial_whose_process_dies_before_it_is_saved_is_paused_again(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    shutil.copytree(demo_data.path, tmp_path / "data")
    study = study_of(tmp_path, open_data(tmp_path / "data"), budget={"trials": 2})
    result = run_search(study, trainable=DyingInSave)
    trials = rows_of(result.folder)
    assert sorted(path.name for path in tmp_path.glob("died-*")) == ["died-0", "died-1"]
    assert [row["state"] for row in trials] == ["COMPLETE"] * 2
    assert saved(result.folder) == named(trials)
    check_epochs(result.folder)
    check_accuracies(result.folder, demo_data)


def test_paused_trials_stay_paused_over_ctrl_c_and_go_on_with_a_resume(
    two_workers: None, demo_data: ImageData, tmp_path: Path, flopwise
):
    study = study_of(tmp_path, demo_data)
    pressed: list[set[int]] = []

    def press(progress: Progress) -> None:
        # With one paused trial and budget left, a free worker begins a new one. With two, or none
        # left, a paused one might go on before the search has seen the signal.
        ledger = progress.ledger
        one_stays = len(ledger.paused) == 1 and ledger.num_begun < NUM_TRIALS
        if one_stays and ledger.unfinished() and not pressed:
            pressed.append(set(ledger.paused))
            os.kill(os.getpid(), signal.SIGINT)

    assert run_search(study, show=press).ending == "interrupted"
    before = rows_of(study.folder)
    paused = in_state(before, "PAUSED")
    assert {row["trial"] for row in paused} >= pressed[0]
    assert {row["stop_reason"] for row in paused} == {f"halfway: epoch {EPOCHS // 2}"}
    assert {row["epochs_trained"] for row in paused} == {EPOCHS // 2}
    assert named(paused) <= saved(study.folder)
    assert not is_over(study)
    code, message, _ = flopwise("status", study.folder)
    assert code == 0
    assert f"{len(paused)} paused" in message
    assert "--resume" in message
    assert run_search(study, resume=True).ending == "trials"
    trials = rows_of(study.folder)
    assert [row["trial"] for row in in_state(trials, "COMPLETE")] == [0, 1, 3, 4]
    assert [row["trial"] for row in in_state(trials, "PRUNED")] == [2, 5]
    assert saved(study.folder) == named(trials)
    check_epochs(study.folder)
    check_accuracies(study.folder, demo_data)


def begin(study: Study) -> subprocess.Popen[str]:
    """Begin or resume a search in a process of its own, with one worker."""
    resume = ["--resume"] if study.folder.exists() else []
    file = study.folder.parents[1] / "study.yaml"
    return subprocess.Popen(
        [sys.executable, pausing.__file__, "search", file, *resume],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'},
    )


def finish(study: Study) -> None:
    process = begin(study)
    output, _ = process.communicate()
    assert process.returncode == 0, output


def kill(study: Study) -> None:
    """Begin a search, and kill it when trials are paused, run and are over."""
    process = begin(study)

    def is_time() -> bool:
        table = study.folder / "trials.parquet"
        rows = rows_of(study.folder) if table.exists() else []
        over = len(in_state(rows, "COMPLETE", "PRUNED"))
        return bool(in_state(rows, "PAUSED") and in_state(rows, "RUNNING")) and over > 1

    while process.poll() is None and not is_time():
        time.sleep(0.02)
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output


def results_of(folder: Path) -> list[dict[str, Any]]:
    """The trials without what differs between two runs of the same study."""
    times = ("seconds", "search_seconds", "checkpoint")
    return [{name: row[name] for name in row if name not in times} for row in rows_of(folder)]


@pytest.mark.own_ray
def test_a_search_that_is_killed_comes_to_the_same_trials_and_results(
    demo_data: ImageData, tmp_path: Path
):
    space = {**SPACE, "epochs": 10, "batch_size": [8, 16]}
    straight, killed = (
        study_of(tmp_path / name, demo_data, space=space, budget={"trials": 9})
        for name in ("straight", "killed")
    )
    finish(straight)
    kill(killed)
    assert not is_over(killed)
    once = {row["trial"]: row["seconds"] for row in in_state(rows_of(killed.folder), "COMPLETE")}
    finish(killed)
    assert results_of(killed.folder) == results_of(straight.folder)
    trials = rows_of(killed.folder)
    assert {row["trial"]: row["seconds"] for row in trials if row["trial"] in once} == once
    assert saved(killed.folder) == named(trials)
    check_epochs(killed.folder)
    curves = [
        [(row["trial"], row["epoch"], row["accuracy"]) for row in rows_of(one.folder, "epochs")]
        for one in (straight, killed)
    ]
    assert curves[0] == curves[1]
