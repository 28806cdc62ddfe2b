import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState
from ray.tune.experiment import Trial as RayTrial
from searches import (
    ONE_WORKER,
    SPACE,
    DyingTrial,
    FinishedSearch,
    HungryTrial,
    WaitingTrial,
    write_study,
)

from analysis.pareto.front import pareto_front
from analysis.runs import read_run, run_recipe, trial_columns
from search.engine import Progress, run_search
from search.followups.export import export_recipe
from search.storage.optuna_storage import open_study
from search.study.study import load_study
from spaces.errors import UserError
from spaces.recipe import read_recipe
from trainables.cost import recipe_cost
from trainables.data.dataset import ImageData, open_data
from trainables.training import train
from trainables.trial import Trial

FLOPWISE = Path(sys.executable).with_name("flopwise")


def trials_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(pa.BufferReader((folder / "trials.parquet").read_bytes())).to_pylist()


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "epochs.parquet").to_pylist()


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def only(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def optuna_trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return open_study(folder, "tiny").get_trials()


def test_a_search_ends_with_every_trial_recorded_once(finished_search: FinishedSearch):
    result = finished_search.result
    trials = trials_of(result.folder)
    assert result.ending == "trials"
    assert tuple(trials[0]) == tuple(trial_columns())
    assert column(trials, "trial") == list(range(6))
    assert set(column(trials, "state")) == {"COMPLETE"}
    assert finished_search.shown[-1] == 6
    stored = optuna_trials(result.folder)
    assert [trial.state for trial in stored] == [TrialState.COMPLETE] * 6
    assert [trial.values[0] for trial in stored] == column(trials, "accuracy")
    last = {row["trial"]: row["accuracy"] for row in epochs_of(result.folder)}
    assert last == {row["trial"]: row["accuracy"] for row in trials if row["epochs_trained"]}


def test_costs_are_those_of_the_recipes_and_the_front_keeps_its_checkpoints(
    finished_search: FinishedSearch,
):
    folder = finished_search.folder
    trials = trials_of(folder)
    for row in trials:
        cost = recipe_cost(run_recipe(row), 3)
        assert (row["gflops"], row["params"]) == (cost.gflops, cost.params)
    losses = np.array([[-row["accuracy"], row["effective_gflops"]] for row in trials])
    expected = {
        row["trial"]
        for row, on_front in zip(trials, pareto_front(losses), strict=True)
        if on_front and row["epochs_trained"]
    }
    assert {row["trial"] for row in trials if row["checkpoint"]} == expected
    kept = {path.parent for path in folder.glob("tune/*/*/*/training.pt")}
    assert kept == {folder / row["checkpoint"] for row in trials if row["checkpoint"]}


def test_the_same_study_on_one_worker_gives_the_same_trials(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    tables = []
    for name in ("one", "two"):
        path = write_study(tmp_path, demo_data, name=name, resources=ONE_WORKER)
        tables.append(trials_of(run_search(load_study(path)).folder))
    times = ("seconds", "search_seconds", "checkpoint")
    names = [name for name in trial_columns() if name not in times]
    one, two = ([only(row, *names) for row in table] for table in tables)
    assert one == two


def test_a_recipe_that_was_finished_is_not_trained_again(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    space = {**SPACE, "learning_rate": 0.003, "batch_size": 32, "input_size": 48}
    path = write_study(tmp_path, demo_data, space=space, budget={"trials": 12})
    study = load_study(path)
    trials = trials_of(run_search(study).folder)
    assert len(trials) == 12
    trained = [(row["width"], row["batch_norm"]) for row in trials if row["epochs_trained"]]
    assert len(trained) == len(set(trained)) <= 4  # width and batch norm leave four recipes
    results = {(row["width"], row["batch_norm"], row["accuracy"]) for row in trials}
    assert len(results) == len(trained)
    assert len(read_run(study.folder).front()) <= len(trained)


def test_a_trial_whose_loss_is_no_number_fails_and_the_search_goes_on(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    space = {
        **SPACE,
        "batch_size": 2,
        "optimizer": ["adam", "sgd"],
        "learning_rate": {"fixed": 100.0, "when": {"optimizer": "sgd"}},
        "weight_decay": {"fixed": 10.0, "when": {"optimizer": "sgd"}},
        "width": {"float": [0.1, 0.13]},
    }
    path = write_study(tmp_path, demo_data, space=space, resources=ONE_WORKER, budget={"trials": 6})
    folder = run_search(load_study(path)).folder
    trials = trials_of(folder)
    failed = [row for row in trials if row["optimizer"] == "sgd"]
    assert failed
    assert set(column(failed, "state")) == {"FAIL"}
    assert set(column(failed, "accuracy")) == {None}
    assert all("the loss was" in row["error"] for row in failed)
    assert {row["state"] for row in trials if row["optimizer"] == "adam"} == {"COMPLETE"}
    stored = [trial for trial in optuna_trials(folder) if trial.state == TrialState.FAIL]
    assert [trial.values for trial in stored] == [None] * len(failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoomedSearch:
    """A search of two recipes, of which one has the batch size that its trainable dies of."""

    folder: Path
    unpickled: list[object]
    """What was asked of the errors that Ray pickled, and got."""


@pytest.fixture(scope="module")
def doomed(
    two_workers: None, demo_data: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[type[Trial]], DoomedSearch]:
    recipe = {**SPACE, "input_size": 48, "width": 0.1, "batch_norm": False, "learning_rate": 1e-3}
    both = [{**recipe, "batch_size": size} for size in (16, 32)]

    @cache
    def search(trainable: type[Trial]) -> DoomedSearch:
        unpickled: list[object] = []
        get_pickled_error = RayTrial.get_pickled_error

        def watch(trial: RayTrial) -> Exception | None:
            unpickled.append(get_pickled_error(trial))
            return None

        folder = tmp_path_factory.mktemp("doomed")
        path = write_study(
            folder, demo_data, space={**SPACE, "enqueue": both}, budget={"trials": 2}
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(RayTrial, "get_pickled_error", watch)
            result = run_search(load_study(path), trainable=trainable)
        return DoomedSearch(folder=result.folder, unpickled=unpickled)

    return search


@pytest.mark.parametrize(
    ("trainable", "reason"),
    [(DyingTrial, "the trial's process died"), (HungryTrial, "out of memory")],
)
def test_a_trial_that_dies_or_runs_out_of_memory_is_failed_with_the_reason(
    doomed: Callable[[type[Trial]], DoomedSearch], trainable: type[Trial], reason: str
):
    trials = trials_of(doomed(trainable).folder)
    failed = [row for row in trials if row["batch_size"] == 16]
    assert failed
    assert set(column(failed, "state")) == {"FAIL"}
    assert all(reason in row["error"] for row in failed)
    assert {row["state"] for row in trials if row not in failed} == {"COMPLETE"}


def test_what_ray_pickled_of_a_death_is_never_read_from_the_run_folder(
    doomed: Callable[[type[Trial]], DoomedSearch],
):
    """Who can write there could have replaced it."""
    search = doomed(DyingTrial)
    assert list((search.folder / "tune").rglob("error.pkl"))
    assert search.unpickled
    assert set(search.unpickled) == {None}


def test_a_search_in_which_everything_fails_stops_and_says_why(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    space = {**SPACE, "batch_size": 16, "width": {"float": [0.1, 0.13]}}
    path = write_study(
        tmp_path, demo_data, space=space, resources=ONE_WORKER, budget={"trials": 100}
    )
    result = run_search(load_study(path), trainable=HungryTrial)
    assert result.ending == "failures"
    assert 8 <= len(trials_of(result.folder)) <= 10
    with pytest.raises(UserError, match=r"no finished trial yet .* out of memory"):
        read_run(result.folder).front()


def test_what_trials_do_before_their_epochs_is_shown(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    shutil.copytree(demo_data.path, tmp_path / "data")
    path = write_study(tmp_path, open_data(tmp_path / "data"), budget={"trials": 2})
    shown: list[dict[int, str]] = []

    def show(progress: Progress) -> None:
        shown.append(dict(progress.phases))
        if progress.phases:
            (tmp_path / "seen").touch()

    result = run_search(load_study(path), show=show, trainable=WaitingTrial)
    assert "computing frozen features" in {what for one in shown for what in one.values()}
    assert trials_of(result.folder)[0]["state"] == "COMPLETE"


def test_enqueued_recipes_are_tried_first(finished_search: FinishedSearch):
    trials = trials_of(finished_search.folder)
    assert only(trials[0], "input_size", "width") == {"input_size": 52, "width": 0.2}


def test_a_run_folder_is_never_overwritten(finished_search: FinishedSearch, tmp_path: Path):
    study = load_study(finished_search.copy(tmp_path))
    before = (study.folder / "trials.parquet").read_bytes()
    with pytest.raises(UserError, match="exists; continue it with --resume"):
        run_search(study)
    assert (study.folder / "trials.parquet").read_bytes() == before


def test_a_finished_search_goes_on_with_a_larger_budget(
    finished_search: FinishedSearch, tmp_path: Path
):
    first = trials_of(finished_search.folder)
    study = load_study(finished_search.copy(tmp_path), trials=7)
    result = run_search(study, resume=True)
    trials = trials_of(result.folder)
    assert column(trials, "trial") == list(range(7))
    kept = ("trial", "state", "accuracy", "epochs_trained", "seconds")
    assert [only(row, *kept) for row in trials[:6]] == [only(row, *kept) for row in first]


def test_a_resume_with_nothing_left_to_do_begins_no_ray(
    finished_search: FinishedSearch, tmp_path: Path
):
    path = finished_search.copy(tmp_path)
    before = trials_of(load_study(path).folder)
    done = subprocess.run(
        [FLOPWISE, "search", path, "--resume"],
        # A Ray that joins there would end it.
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Front of tiny" in done.stdout
    assert trials_of(load_study(path).folder) == before


def test_an_exported_recipe_trains_to_the_accuracy_of_its_trial(
    finished_search: FinishedSearch, demo_data: ImageData, tmp_path: Path
):
    folder = finished_search.folder
    path, reason = export_recipe(folder, "most-accurate", tmp_path / "recipe.yaml")
    trained = train(read_recipe(path), demo_data, lambda _: None)
    assert reason
    assert trained.history[-1].accuracy == max(column(trials_of(folder), "accuracy"))


def test_more_gpus_than_there_are_is_one_line_before_anything_is_made(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study = load_study(write_study(tmp_path, demo_data, resources={"gpus": 1}))
    with pytest.raises(UserError, match=r"resources.gpus: a trial takes 1, but there are 0"):
        run_search(study)
    assert not study.folder.exists()


def wait_until(happens, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not happens():
        time.sleep(0.05)


def test_a_search_that_was_interrupted_goes_on_with_every_finished_trial_once(
    two_workers: None, flopwise, demo_data: ImageData, tmp_path: Path
):
    # Long enough that the search is under way when the table first shows two finished trials.
    space = {**SPACE, "epochs": 20, "batch_size": 8}
    path = write_study(
        tmp_path,
        demo_data,
        space=space,
        early_stopping={"name": "none"},
        budget={"trials": 8},
    )
    folder = tmp_path / "runs" / "tiny"
    # What is said here holds for the resume too, which does not say it again.
    process = subprocess.Popen(
        [FLOPWISE, "search", path, "--fix", "width=0.11", "--seed", "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def some_are_finished() -> bool:
        table = folder / "trials.parquet"
        return table.exists() and column(trials_of(folder), "state").count("COMPLETE") >= 2

    wait_until(some_are_finished, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    finished = [row for row in trials_of(folder) if row["state"] == "COMPLETE"]
    code, message, complaint = flopwise("search", path, "--resume")
    assert code == 0, message + complaint
    trials = trials_of(folder)
    assert column(trials, "trial") == list(range(len(trials)))
    # After an accuracy of 1 dearer recipes never begin, and take nothing of the budget.
    begun = [row for row in trials if row["state"] != "PRUNED"]
    assert column(begun, "state") == ["COMPLETE"] * 8
    assert set(column(trials, "width")) == {0.11}
    assert set(column(trials, "seed")) == {5}
    kept = ("trial", "accuracy", "seconds", "learning_rate")
    again = [only(trials[row["trial"]], *kept) for row in finished]
    assert again == [only(row, *kept) for row in finished]
    stored = [trial.state.name for trial in optuna_trials(folder)]
    assert stored == column(trials, "state")
    keys = [(row["trial"], row["epoch"]) for row in epochs_of(folder)]
    assert len(keys) == len(set(keys)) == sum(column(trials, "epochs_trained"))


def test_early_stopping_ends_trials_on_ray_as_the_ledger_decides(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    space = {**SPACE, "learning_rate": {"log": [1.0e-5, 1.0e-2]}, "epochs": 9}
    path = write_study(
        tmp_path,
        demo_data,
        space=space,
        sampler={"name": "random"},
        early_stopping={"name": "pareto", "reduction": 3},
        constraints={"gflops": "<= 0.004"},
        dominated="keep",
        budget={"trials": 14},
    )
    result = run_search(load_study(path))
    trials = trials_of(result.folder)
    by_state = {
        state: [row for row in trials if row["state"] == state] for state in ("COMPLETE", "PRUNED")
    }
    assert len(by_state["COMPLETE"]) + len(by_state["PRUNED"]) == len(trials)
    stopped = [row for row in by_state["PRUNED"] if row["epochs_trained"]]
    refused = [row for row in by_state["PRUNED"] if not row["epochs_trained"]]
    assert stopped
    assert {row["epochs_trained"] for row in stopped} <= {1, 3}
    assert {row["accuracy"] for row in stopped} == {None}
    assert {row["epochs_trained"] for row in by_state["COMPLETE"]} == {9}
    # Refused ones take nothing of the budget.
    assert len(trials) - len(refused) == 14
    assert refused
    assert all("constraint gflops<=0.004: it is " in row["error"] for row in refused)
    assert all(row["gflops"] > 0.004 for row in refused)
    assert all(row["gflops"] <= 0.004 for row in trials if row not in refused)
    stored = optuna_trials(result.folder)
    assert [trial.state.name for trial in stored] == column(trials, "state")
    assert all(trial.values is None for trial in stored if trial.state == TrialState.PRUNED)
    keys = [(row["trial"], row["epoch"]) for row in epochs_of(result.folder)]
    assert len(keys) == len(set(keys)) == sum(column(trials, "epochs_trained"))
    kept = {path.parent for path in result.folder.glob("tune/*/*/*/training.pt")}
    assert kept == {result.folder / row["checkpoint"] for row in trials if row["checkpoint"]}
