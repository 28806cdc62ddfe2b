"""Lists of recipes through the engine."""

from pathlib import Path

import pytest
from optuna.trial import TrialState
from searches import ONE_WORKER, write_study

from analysis.pareto.front import pareto_front
from analysis.runs import read_run
from search.decisions.trial_record import TrialRecord
from search.followups.recipe_runs import alone_in, finished_below, recipes_study, train_recipes
from search.storage.optuna_storage import create_study
from search.storage.run_folder import RunFolder
from search.study.study import Study, load_study
from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.data.dataset import ImageData

SMALL = Recipe(input_size=48, width=0.1, batch_norm=True, epochs=2, learning_rate=3e-3)
# Dearer, and it hardly learns: the other one dominates it.
WORSE = SMALL.replace(width=0.2, learning_rate=1e-8)
LIST = [SMALL, WORSE, SMALL.replace(seed=1)]


def like(folder: Path, data: ImageData) -> Study:
    return load_study(write_study(folder, data, seed=5, resources=ONE_WORKER))


def tables(below: Path) -> dict[str, list[tuple[int, float]]]:
    """What was trained, by list: seeds and seconds."""
    runs = [read_run(path.parent) for path in sorted(below.glob("*/study.yaml"))]
    return {
        run.name: list(zip(run.trials["seed"], run.trials["seconds"], strict=True)) for run in runs
    }


def _leave(study: Study, data: ImageData, records: list[TrialRecord]) -> None:
    """A run folder as a driver that died left it."""
    folder = RunFolder.create(study, data)
    create_study(folder.path, study.name, study.objectives.optuna_directions)
    folder.write_tables(records)
    folder.close()


def test_a_list_is_a_study_file_again(demo_data: ImageData, tmp_path: Path):
    study = recipes_study(LIST, like=like(tmp_path, demo_data), below=tmp_path / "below", name="a")
    RunFolder.create(study, demo_data).close()
    again = load_study(study.folder / "study.yaml")
    assert again.resolved() == study.resolved()
    assert list(again.space.enqueue) == LIST
    assert (again.dominated, again.early_stopping.name) == ("keep", "none")


def test_a_list_is_trained_once_and_keeps_every_checkpoint(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study, below = like(tmp_path, demo_data), tmp_path / "below"
    found = train_recipes(LIST, like=study, below=below, name="a")
    assert list(found) == [recipe.key for recipe in LIST]
    trials = read_run(below / "a").trials
    losses = trials[["accuracy", "effective_gflops"]].to_numpy(dtype=float) * [-1, 1]
    assert not pareto_front(losses).all(), "none is dominated, so that this shows nothing"
    for trial in found.values():
        assert trial.checkpoint is not None
        assert (trial.checkpoint / "training.pt").is_file()
    before = tables(below)
    # More seeds: a list of its own, in which the old ones are not.
    more = [*LIST, WORSE.replace(seed=1)]
    assert len(train_recipes(more, like=study, below=below, name="a")) == 4
    assert tables(below)["a"] == before["a"]
    assert [seed for seed, _ in tables(below)["a-2"]] == [1]
    assert len(train_recipes(more[::-1], like=study, below=below, name="b")) == 4
    assert set(tables(below)) == {"a", "a-2"}


def test_a_list_goes_on_only_where_all_that_is_left_of_it_is_wanted(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study, below = like(tmp_path, demo_data), tmp_path / "below"
    # As after a driver that died before its first trial.
    _leave(recipes_study(LIST, like=study, below=below, name="a"), demo_data, [])
    train_recipes([SMALL], like=study, below=below, name="b")
    assert {name: len(rows) for name, rows in tables(below).items()} == {"a": 0, "b": 1}
    # SMALL is there by now, so that the first list would train it again.
    train_recipes([SMALL, WORSE], like=study, below=below, name="c")
    assert {name: len(rows) for name, rows in tables(below).items()} == {"a": 0, "b": 1, "c": 1}
    assert set(finished_below(below)) == {SMALL.key, WORSE.key}


def test_what_failed_is_told_and_tried_again_only_where_that_is_asked_for(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study, below = like(tmp_path, demo_data), tmp_path / "below"
    lost = SMALL.replace(optimizer="sgd", learning_rate=100.0, weight_decay=10.0, batch_norm=False)
    found = train_recipes([lost, SMALL], like=study, below=below, name="a")
    assert found[lost.key].reached is None
    assert "the loss was" in (found[lost.key].error or "")
    before = tables(below)
    assert train_recipes([lost, SMALL], like=study, below=below, name="a") == found
    assert tables(below) == before
    train_recipes([lost, SMALL], like=study, below=below, name="a", retry=True)
    assert {name: len(rows) for name, rows in tables(below).items()} == {"a": 2, "a-2": 1}


def test_a_retry_that_was_interrupted_goes_on_as_one(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    study, below = like(tmp_path, demo_data), tmp_path / "below"
    listed = recipes_study([SMALL], like=study, below=below, name="a")
    record = TrialRecord(number=0, recipe=SMALL, state=TrialState.FAIL, error="no memory was left")
    _leave(listed, demo_data, [record])
    _leave(recipes_study([SMALL], like=study, below=below, name="a-2"), demo_data, [])
    assert train_recipes([SMALL], like=study, below=below, name="a")[SMALL.key].reached is None
    found = train_recipes([SMALL], like=study, below=below, name="a", retry=True)
    assert found[SMALL.key].reached is not None
    assert {name: len(rows) for name, rows in tables(below).items()} == {"a": 1, "a-2": 1}


def test_two_commands_on_one_run_do_not_meet(tmp_path: Path):
    message = pytest.raises(UserError, match="is already at work on this run")
    with alone_in(tmp_path / "below"), message, alone_in(tmp_path / "below"):
        pass
    with alone_in(tmp_path / "below"):
        pass
