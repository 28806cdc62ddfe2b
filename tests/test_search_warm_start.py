"""Finished trials of earlier runs as knowledge."""

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from searches import ONE_WORKER, SPACE, write_study

from analysis.choose import choose
from analysis.report.facts import run_facts
from analysis.runs import read_run
from search.engine import SearchResult, run_search
from search.followups.export import checkpoint_of
from search.storage import optuna_storage
from search.storage.warm_start import read_earlier_trials, stored_earlier_trials
from search.study.study import Study, load_study
from spaces.errors import UserError
from trainables.data.dataset import ABOUT, ImageData, open_data
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


def grown_from(before: ImageData, now: ImageData) -> ImageData:
    """Data that says that it has grown, as `flopwise data append` writes it."""
    about = now.path / ABOUT
    content = json.loads(about.read_text())
    about.write_text(json.dumps({**content, "grown_from": [before.digest]}))
    return open_data(now.path)


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
    run = read_run(study.folder)
    assert len(run.front()) >= 1
    with pytest.raises(UserError, match="that of another trial with the same recipe"):
        checkpoint_of(run, choose(run, "knee"))


def test_earlier_trials_stand_in_no_table_and_are_known_again_after_a_resume(
    demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    study = later(tmp_path, demo_data, earlier, budget={"trials": 1}, sampler={"name": "random"})
    run_search(study)
    stored = optuna_storage.open_study(study.folder, "later")
    assert len([one for one in stored.get_trials() if one.state != TrialState.WAITING]) == 1
    kept = stored_earlier_trials(stored) or []
    read = read_earlier_trials(study, demo_data)
    assert [record.number for record in kept] == [-1, -2, -3, -4]
    assert [(r.recipe, r.cost, r.epochs, r.accuracy) for r in kept] == [
        (r.recipe, r.cost, r.epochs, r.accuracy) for r in read
    ]
    # As if the driver had been killed before it stored them.
    journal = study.folder / optuna_storage.JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '{"warm_start":' not in line))
    assert stored_earlier_trials(optuna_storage.open_study(study.folder, "later")) is None
    more = load_study(tmp_path / "study.yaml", trials=4)
    result = run_search(more, resume=True)
    assert [r.state for r in result.ledger.records.values()] == [TrialState.COMPLETE] * 4
    assert not any(record.epochs for record in result.ledger.records.values())


def test_a_run_of_unrelated_data_or_without_a_cost_is_refused_by_name(
    demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    other = make_demo(tmp_path / "other", classes=4, size=64)
    with pytest.raises(UserError, match=r"earlier: searched other data"):
        run_search(later(tmp_path, other, earlier))
    grown = grown_from(demo_data, other)
    with pytest.raises(UserError, match=r"this data when it had 3 classes; now it has 4"):
        run_search(later(tmp_path, grown, earlier))
    objectives = {"accuracy": "max", "latency_ms": "min"}
    with pytest.raises(UserError, match=r"earlier: trial 0 has no latency_ms, which this study"):
        run_search(later(tmp_path, demo_data, earlier, objectives=objectives))
    missing = load_study(write_study(tmp_path, demo_data, warm_start=["nowhere"]))
    with pytest.raises(UserError, match=r"nowhere: not a run folder"):
        run_search(missing)
    assert not missing.folder.exists()


@pytest.mark.parametrize("sampler", ["gain", "tpe"])
def test_a_search_in_a_wider_space_begins_with_the_results_of_the_earlier_front(
    sampler: str, demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    front = [record.recipe for record in earlier.ledger.front()]
    study = later(
        tmp_path,
        demo_data,
        earlier,
        space={**SMALL, "width": {"float": [0.1, 0.2]}, "batch_size": [16, 32]},
        sampler={"name": sampler},
        budget={"trials": len(front) + 2},
    )
    said: list[str] = []
    records = list(run_search(study, announce=said.append).ledger.records.values())
    assert [record.recipe for record in records[: len(front)]] == front
    assert all(record.reused is not None for record in records[: len(front)])
    assert all(record.epochs for record in records[len(front) :])
    line = f"4 trials as results; first come the recipes of the earlier front: {len(front)}"
    assert said == [f"warm start: {line}"]
    assert run_facts(read_run(study.folder))["warm start"] == line


def test_a_search_in_a_narrower_space_takes_over_what_lies_in_it(
    demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    space = {**SMALL, "width": [0.1], "learning_rate": {"log": [1e-3, 1e-2]}}
    study = later(tmp_path, demo_data, earlier, space=space, budget={"trials": 3})
    run_search(study)
    run = read_run(study.folder)
    assert set(run.trials["width"]) == {0.1}
    taken = run.trials.loc[run.trials["epochs_trained"] == 0, "learning_rate"]
    assert set(taken) == {0.003}
    said = run_facts(run)["warm start"]
    assert said.startswith(
        "2 trials as results; 2 trials outside this space, only to foresee accuracies; first come"
    )


@pytest.mark.parametrize("sampler", ["gain", "tpe"])
def test_on_grown_data_the_earlier_front_is_trained_first_and_no_earlier_accuracy_is_shown(
    sampler: str, demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    more = make_demo(tmp_path / "more", classes=3, size=64, times=2)
    grown = grown_from(demo_data, more)
    front = [record.recipe for record in earlier.ledger.front()]
    study = later(
        tmp_path, grown, earlier, sampler={"name": sampler}, budget={"trials": len(front) + 1}
    )
    result = run_search(study)
    records = list(result.ledger.records.values())
    assert [record.recipe for record in records[: len(front)]] == front
    assert all(record.epochs for record in records[: len(front)])
    assert all(record.reused is None or record.reused >= 0 for record in records)
    run = read_run(study.folder)
    validation = len(grown.rows("validation"))
    counts = run.trials["accuracy"].dropna().to_numpy() * validation
    assert counts == pytest.approx(counts.round())
    said = run_facts(run)["warm start"]
    assert "4 trials of the data before it grew, only" in said
    assert "their own accuracies are not shown" in said
    # What was stored of them guides a resume too, without the earlier run.
    kept = stored_earlier_trials(optuna_storage.open_study(study.folder, "later")) or []
    assert {record.data for record in kept} == {demo_data.digest}
    with pytest.raises(UserError, match="data changed"):
        run_search(later(tmp_path, demo_data, earlier), resume=True)


def test_another_seed_is_the_same_space(
    demo_data: ImageData, earlier: SearchResult, tmp_path: Path
):
    study = later(tmp_path, demo_data, earlier, seed=7)
    assert len(read_earlier_trials(study, demo_data)) == 4
