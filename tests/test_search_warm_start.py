"""Finished trials of earlier runs as knowledge."""

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from searches import ONE_WORKER, SPACE, write_study

from analysis.runs import read_run
from search.engine import SearchResult, run_search
from search.storage import optuna_storage
from search.storage.warm_start import read_earlier_trials, stored_earlier_trials
from search.study.study import Study, load_study
from spaces.errors import UserError
from trainables.data.dataset import ImageData
from trainables.data.demo_images import make_demo

# Four recipes.
SMALL = {**SPACE, "learning_rate": 0.003, "batch_size": 32, "input_size": 48}
ALL = [
    {**SMALL, "width": width, "batch_norm": batch_norm}
    for width in SPACE["width"]
    for batch_norm in (False, True)
]


@pytest.fixture(scope="module")
def earlier(
    two_workers: None, demo_data: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> SearchResult:
    """A run of all recipes of the small space."""
    path = write_study(
        tmp_path_factory.mktemp("earlier"),
        demo_data,
        name="earlier",
        space={**SMALL, "enqueue": ALL},
        resources=ONE_WORKER,
        budget={"trials": 4},
    )
    return run_search(load_study(path))


def later(folder: Path, data: ImageData, earlier: SearchResult, **changes: Any) -> Study:
    settings = {"space": SMALL, "warm_start": [str(earlier.folder)], **changes}
    return load_study(write_study(folder, data, name="later", **settings))


def test_recipes_that_finished_in_an_earlier_run_are_not_trained_again(
    demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    study = later(tmp_path, demo_data, earlier, budget={"trials": 6})
    trials = read_run(run_search(study).folder).trials
    assert len(trials) == 6
    known = {record.key: record.accuracy for record in earlier.ledger.records.values()}
    trained = trials[trials["epochs_trained"] > 0]
    assert len(known) == 4
    assert trained.empty
    assert set(trials["accuracy"]) <= set(known.values())
    # What was taken over stands on this run's front.
    assert len(read_run(study.folder).front()) >= 1


def test_earlier_trials_stand_in_no_table_and_are_known_again_after_a_resume(
    demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    study = later(tmp_path, demo_data, earlier, budget={"trials": 1}, sampler={"name": "random"})
    run_search(study)
    stored = optuna_storage.open_study(study.folder, "later")
    assert len(stored.get_trials()) == 1
    kept = stored_earlier_trials(stored)
    read = read_earlier_trials(study, demo_data.digest)
    assert [record.number for record in kept] == [-1, -2, -3, -4]
    assert [(r.recipe, r.cost, r.epochs, r.accuracy) for r in kept] == [
        (r.recipe, r.cost, r.epochs, r.accuracy) for r in read
    ]
    more = load_study(tmp_path / "study.yaml", trials=4)
    result = run_search(more, resume=True)
    assert [r.state for r in result.ledger.records.values()] == [TrialState.COMPLETE] * 4
    assert not any(record.epochs for record in result.ledger.records.values())


def test_a_run_of_other_data_or_another_space_is_refused_by_name(
    demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    other = make_demo(tmp_path / "other", classes=4, size=64)
    with pytest.raises(UserError, match=r"earlier: searched other data"):
        run_search(later(tmp_path, other, earlier))
    wider = later(tmp_path, demo_data, earlier, space={**SMALL, "batch_size": [16, 32]})
    with pytest.raises(UserError, match="searched another space, which differs in batch_size"):
        run_search(wider)
    missing = load_study(write_study(tmp_path, demo_data, warm_start=["nowhere"]))
    with pytest.raises(UserError, match=r"nowhere: not a run folder"):
        run_search(missing)
    assert not missing.folder.exists()


def test_another_seed_is_the_same_space(
    demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    study = later(tmp_path, demo_data, earlier, seed=7)
    assert len(read_earlier_trials(study, demo_data.digest)) == 4
