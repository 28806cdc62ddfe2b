import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from searches import SPACE, DyingTrial, HungryTrial, write_study

from analysis.front import pareto_front
from analysis.runs import TRIAL_COLUMNS, read_run, run_recipe
from search.engine import Progress, run_search
from search.export import export_recipe
from search.optuna_storage import load_study as load_optuna_study
from search.study import load_study
from spaces.errors import UserError
from spaces.recipe import read_recipe
from trainables.cost import recipe_cost
from trainables.images import ImageData
from trainables.training import train

FLOPWISE = Path(sys.executable).with_name("flopwise")


def trials_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "trials.parquet")


def optuna_trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return load_optuna_study(folder, "tiny").get_trials()


def test_a_search_ends_with_every_trial_recorded_once(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    seen: list[int] = []

    def listen(progress: Progress) -> None:
        seen.append(len(progress.ledger.records))

    study = load_study(write_study(tmp_path, demo_data, budget={"trials": 6}))
    result = run_search(study, show=listen)
    trials = trials_of(result.folder)
    assert result.ending == "budget"
    assert tuple(trials.columns) == TRIAL_COLUMNS
    assert trials["trial"].tolist() == list(range(6))
    assert set(trials["state"]) == {"COMPLETE"}
    assert seen[-1] == 6
    stored = optuna_trials(result.folder)
    assert [trial.state for trial in stored] == [TrialState.COMPLETE] * 6
    assert [trial.values[0] for trial in stored] == trials["accuracy"].tolist()
    epochs = pd.read_parquet(result.folder / "epochs.parquet")
    last = epochs.groupby("trial")["accuracy"].last()
    trained = trials.loc[trials["epochs_trained"] > 0]
    assert last.tolist() == trained["accuracy"].tolist()


def test_costs_are_those_of_the_recipes_and_the_front_keeps_its_checkpoints(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study = load_study(write_study(tmp_path, demo_data, budget={"trials": 6}))
    trials = trials_of(run_search(study).folder)
    for _, row in trials.iterrows():
        cost = recipe_cost(run_recipe(row), 3)
        assert (row["gflops"], row["params"]) == (cost.gflops, cost.params)
    losses = np.column_stack([-trials["accuracy"], trials["effective_gflops"]])
    on_front = pareto_front(losses) & (trials["epochs_trained"] > 0).to_numpy()
    assert trials["checkpoint"].notna().tolist() == on_front.tolist()
    kept = {path.parent for path in study.folder.glob("tune/*/*/*/training.pt")}
    assert kept == {study.folder / path for path in trials["checkpoint"].dropna()}


def test_the_same_study_on_one_worker_gives_the_same_trials(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    tables = []
    for name in ("one", "two"):
        path = write_study(tmp_path, demo_data, name=name, resources={"cpus": 2})
        tables.append(trials_of(run_search(load_study(path)).folder))
    timeless = [table.drop(columns=["seconds", "checkpoint"]) for table in tables]
    pd.testing.assert_frame_equal(*timeless)


def test_a_recipe_that_was_finished_is_not_trained_again(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    space = {**SPACE, "learning_rate": 0.003, "batch_size": 32, "input_size": 48}
    path = write_study(tmp_path, demo_data, space=space, budget={"trials": 12})
    trials = trials_of(run_search(load_study(path)).folder)
    trained = trials.loc[trials["epochs_trained"] > 0]
    assert len(trials) == 12
    assert len(trained) <= 4  # width and batch norm leave four recipes
    assert not trained.duplicated(["width", "batch_norm"]).any()
    by_recipe = trials.groupby(["width", "batch_norm"])["accuracy"]
    assert (by_recipe.nunique() == 1).all()


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
    path = write_study(tmp_path, demo_data, space=space, budget={"trials": 6})
    folder = run_search(load_study(path)).folder
    trials = trials_of(folder)
    failed = trials.loc[trials["optimizer"] == "sgd"]
    assert len(failed) > 0
    assert set(failed["state"]) == {"FAIL"}
    assert failed["accuracy"].isna().all()
    assert failed["error"].str.contains("the loss was").all()
    assert set(trials.loc[trials["optimizer"] == "adam", "state"]) == {"COMPLETE"}
    assert [t.values for t in optuna_trials(folder) if t.state == TrialState.FAIL] == [None] * len(
        failed
    )


@pytest.mark.parametrize(
    ("trainable", "reason"),
    [(DyingTrial, "the trial's process died"), (HungryTrial, "out of memory")],
)
def test_a_trial_that_dies_or_runs_out_of_memory_is_failed_with_the_reason(
    two_workers: None,
    demo_data: ImageData,
    tmp_path: Path,
    trainable: type[DyingTrial],
    reason: str,
):
    space = {**SPACE, "width": {"float": [0.1, 0.13]}}
    path = write_study(tmp_path, demo_data, space=space, budget={"trials": 5})
    trials = trials_of(run_search(load_study(path), trainable=trainable).folder)
    doomed = trials["batch_size"] == 16
    assert doomed.any()
    assert set(trials.loc[doomed, "state"]) == {"FAIL"}
    assert trials.loc[doomed, "error"].str.contains(reason).all()
    assert set(trials.loc[~doomed, "state"]) <= {"COMPLETE"}


def test_a_search_in_which_everything_fails_stops_and_says_why(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    space = {**SPACE, "batch_size": 16, "width": {"float": [0.1, 0.13]}}
    path = write_study(tmp_path, demo_data, space=space, budget={"trials": 100})
    result = run_search(load_study(path), trainable=HungryTrial)
    assert result.ending == "failures"
    assert 8 <= len(trials_of(result.folder)) <= 10
    with pytest.raises(UserError, match=r"no finished trial yet .* out of memory"):
        read_run(result.folder).front()


def test_enqueued_recipes_are_tried_first(two_workers: None, demo_data: ImageData, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("{input_size: 52, width: 0.2, epochs: 1}")
    path = write_study(tmp_path, demo_data, enqueue=["mine.yaml"], budget={"trials": 2})
    trials = trials_of(run_search(load_study(path)).folder)
    assert trials.loc[0, ["input_size", "width"]].tolist() == [52, 0.2]


def test_a_run_folder_is_never_overwritten(two_workers: None, demo_data: ImageData, tmp_path: Path):
    study = load_study(write_study(tmp_path, demo_data, budget={"trials": 1}))
    run_search(study)
    before = (study.folder / "trials.parquet").read_bytes()
    with pytest.raises(UserError, match="exists; go on with it by --resume"):
        run_search(study)
    assert (study.folder / "trials.parquet").read_bytes() == before


def test_a_finished_search_goes_on_with_a_larger_budget(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    path = write_study(tmp_path, demo_data, budget={"trials": 3})
    first = trials_of(run_search(load_study(path)).folder)
    result = run_search(load_study(path, trials=5), resume=True)
    trials = trials_of(result.folder)
    assert trials["trial"].tolist() == list(range(5))
    kept = ["trial", "state", "accuracy", "epochs_trained", "seconds"]
    pd.testing.assert_frame_equal(trials.loc[:2, kept], first[kept])


def test_an_exported_recipe_trains_to_the_accuracy_of_its_trial(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study = load_study(write_study(tmp_path, demo_data, budget={"trials": 2}))
    folder = run_search(study).folder
    path, reason = export_recipe(folder, "most-accurate")
    trained = train(read_recipe(path), demo_data, lambda _: None)
    assert reason
    assert trained.history[-1].accuracy == trials_of(folder)["accuracy"].max()


def test_more_gpus_than_there_are_is_one_line_before_anything_is_made(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study = load_study(write_study(tmp_path, demo_data, resources={"gpus": 1}))
    with pytest.raises(UserError, match=r"resources.gpus: a trial takes 1, and there are 0"):
        run_search(study)
    assert not study.folder.exists()


def wait_until(happens, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not happens():
        time.sleep(0.05)


def test_a_search_that_was_interrupted_goes_on_with_every_finished_trial_once(
    demo_data: ImageData, tmp_path: Path
):
    path = write_study(tmp_path, demo_data, space={**SPACE, "epochs": 3}, budget={"trials": 8})
    folder = tmp_path / "runs" / "tiny"
    command = [FLOPWISE, "search", path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def some_are_finished() -> bool:
        table = folder / "trials.parquet"
        return table.exists() and (trials_of(folder)["state"] == "COMPLETE").sum() >= 2

    wait_until(some_are_finished, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    finished = trials_of(folder).query("state == 'COMPLETE'")
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = trials_of(folder)
    assert trials["trial"].tolist() == list(range(8))
    assert set(trials["state"]) == {"COMPLETE"}
    kept = ["trial", "accuracy", "seconds", "learning_rate"]
    again = trials.loc[trials["trial"].isin(finished["trial"]), kept]
    pd.testing.assert_frame_equal(
        again.reset_index(drop=True), finished[kept].reset_index(drop=True)
    )
    assert [trial.state for trial in optuna_trials(folder)] == [TrialState.COMPLETE] * 8
    epochs = pd.read_parquet(folder / "epochs.parquet")
    assert not epochs.duplicated(["trial", "epoch"]).any()
