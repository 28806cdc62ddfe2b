"""Trials of earlier runs in another space, and of the data before it grew."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledger_runs import Run, made_up_cost, recipe_of
from optuna.trial import TrialState
from searches import metrics

from search.decisions.earlier_trials import describe_earlier, sort_earlier
from search.decisions.gain.rule import GainRule
from search.decisions.samplers import SAMPLERS
from search.decisions.trial_record import TrialRecord
from spaces.recipe import Recipe

SPACE: dict[str, Any] = {
    "input_size": [48, 64, 96],
    "width": [0.25, 0.5],
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"log": [1e-4, 1e-2]},
    "epochs": 2,
}
WIDER = {**SPACE, "width": {"float": [0.125, 1.0]}, "label_smoothing": [0.0, 0.1]}
NARROWER = {**SPACE, "input_size": [48, 64], "optimizer": "adam"}
BEFORE_IT_GREW = "0" * 32


def earlier_run(data: str | None = None, *, seed: int = 0, **changes: Any) -> list[TrialRecord]:
    """Complete trials of every recipe of the space; better where wider, on larger images."""
    recipes = [
        Recipe(
            **{"width": width, "input_size": size, "optimizer": optimizer, "epochs": 2}, seed=seed
        )
        for width in SPACE["width"]
        for size in SPACE["input_size"]
        for optimizer in SPACE["optimizer"]
    ]
    records = []
    for index, recipe in enumerate(recipe.replace(**changes) for recipe in recipes):
        accuracy = 0.3 + 0.4 * recipe.width + recipe.input_size / 400
        accuracy -= 0.05 * (recipe.optimizer == "sgd")
        records.append(
            TrialRecord(
                number=-1 - index,
                recipe=recipe,
                cost=made_up_cost(recipe),
                state=TrialState.COMPLETE,
                epochs=[metrics(1, accuracy / 2), metrics(2, accuracy)],
                metrics={"accuracy": accuracy},
                data=data,
            )
        )
    return records


def front_of(records: list[TrialRecord]) -> list[Recipe]:
    """By brute force: those that no other one equals in cost and accuracy and beats in one."""
    pairs = [
        (float(record.cost["gflops"] or 0), -(record.accuracy or 0))
        for record in records
        if record.cost
    ]
    return [
        recipe_of(record)
        for record, (cost, loss) in zip(records, pairs, strict=True)
        if not any(c <= cost and other <= loss and (c, other) != (cost, loss) for c, other in pairs)
    ]


def begun(run: Run, count: int) -> list[TrialRecord]:
    """The first trials, each trained to an accuracy of 0.2 unless it takes over a result."""
    while len(run.ledger.records) < count:
        record = run.ask()
        run.finish(record, 0.2)
    return list(run.ledger.records.values())[:count]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_in_a_wider_space_the_earlier_front_comes_first_and_takes_over_its_results(
    sampler: str, tmp_path: Path
):
    earlier = earlier_run()
    front = front_of(earlier)
    run = Run(tmp_path, sampler=sampler, content=WIDER, earlier=earlier)
    first = begun(run, len(front))
    assert {recipe_of(record) for record in first} == set(front)
    assert all(record.reused is not None and not record.epochs for record in first)
    accuracies = {record.key: record.accuracy for record in earlier}
    assert all(record.accuracy == accuracies[record.key] for record in first)


@pytest.mark.parametrize("sampler", ["gain", "tpe"])
def test_in_a_narrower_space_only_the_front_inside_it_comes_first(sampler: str, tmp_path: Path):
    earlier = earlier_run()
    fits = [record for record in earlier if recipe_of(record).input_size < 96]
    inside = front_of([record for record in fits if recipe_of(record).optimizer == "adam"])
    run = Run(tmp_path, sampler=sampler, content=NARROWER, earlier=earlier)
    first = begun(run, len(inside))
    assert {recipe_of(record) for record in first} == set(inside)
    assert all(record.reused is not None for record in first)
    assert recipe_of(begun(run, len(inside) + 1)[-1]).input_size < 96


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_on_data_that_grew_the_earlier_front_is_trained_first_and_none_of_its_accuracies_counts(
    sampler: str, tmp_path: Path
):
    earlier = earlier_run(BEFORE_IT_GREW, seed=5)
    front = [recipe.replace(seed=0) for recipe in front_of(earlier)]
    run = Run(tmp_path, sampler=sampler, content={**WIDER, "seed": 0}, earlier=earlier)
    first = begun(run, len(front))
    assert {recipe_of(record) for record in first} == set(front)
    assert [record.accuracy for record in first] == [0.2] * len(front)
    assert all(record.reused is None and record.epochs for record in first)
    assert {record.accuracy for record in run.ledger.front()} == {0.2}


def test_the_curves_of_earlier_data_guide_proposals_and_expectations(tmp_path: Path):
    """Accuracies here are 0.2 lower: the model learns that from the front's recipes."""
    earlier = earlier_run(BEFORE_IT_GREW)
    run = Run(tmp_path, sampler="gain", content=SPACE, rule=GainRule(), earlier=earlier)
    alone = Run(tmp_path / "alone", sampler="gain", content=SPACE, rule=GainRule())
    known = {record.key: record.accuracy or 0 for record in earlier}
    first = run.ask()
    assert first.expected is not None
    assert first.expected.accuracy == pytest.approx(known[first.key], abs=0.1)
    wide = first.expected.high - first.expected.low
    unknown = alone.ask().expected
    assert unknown is not None
    assert wide < unknown.high - unknown.low
    run.finish(first, known[first.key] - 0.2)
    expected = []
    for _ in range(3):
        record = run.ask()
        expected.append((record.expected, known[record.key] - 0.2))
        run.finish(record, expected[-1][1])
    last, found = expected[-1]
    assert last is not None
    assert last.accuracy == pytest.approx(found, abs=0.08)
    assert last.low < found < last.high


def test_the_same_trials_are_known_in_the_same_way_after_a_resume(tmp_path: Path):
    earlier = [
        *earlier_run(),
        *(replace(one, number=one.number - 12) for one in earlier_run(BEFORE_IT_GREW)),
    ]
    straight, interrupted = (
        Run(tmp_path / name, sampler="gain", content=NARROWER, rule=GainRule(), earlier=earlier)
        for name in ("straight", "interrupted")
    )
    straight.search(8, workers=1)
    interrupted.search(8, workers=1, reopen_every=2)
    assert straight.recipes == interrupted.recipes


def test_earlier_trials_are_sorted_by_what_the_space_can_tell_of_them(tmp_path: Path):
    run = Run(tmp_path, content=NARROWER)

    def sorted_of(**changes: Any) -> tuple[int, int, int]:
        found = sort_earlier(earlier_run(**changes), run.space, run.objectives)
        return len(found.results), len(found.guides), len(found.left_out)

    # Half are of sgd, which the space fixes otherwise; of the rest, a third are of 96 px.
    assert sorted_of() == (4, 2, 6)
    assert sorted_of(data=BEFORE_IT_GREW) == (0, 6, 6)
    assert sorted_of(seed=3) == (4, 2, 6)
    assert sorted_of(batch_size=64) == (0, 0, 12)
    found = sort_earlier(earlier_run(batch_size=64), run.space, run.objectives)
    assert set(found.left_out_fields) == {"optimizer", "batch_size"}
    assert found.first == []


def test_of_several_data_the_fronts_come_in_the_order_of_the_runs(tmp_path: Path):
    run = Run(tmp_path, content=SPACE)
    here, before = earlier_run()[:1], earlier_run(BEFORE_IT_GREW)[2:3]
    found = sort_earlier([*before, *here, *before], run.space, run.objectives)
    assert found.first == [recipe_of(here[0]), recipe_of(before[0])]


def test_one_line_says_what_earlier_trials_are(tmp_path: Path):
    run = Run(tmp_path, content=NARROWER)
    here = earlier_run()
    found = sort_earlier([*here, *earlier_run(BEFORE_IT_GREW)], run.space, run.objectives)
    assert describe_earlier(found, learns=True) == (
        "4 trials as results; 6 trials of the data before it grew, only to foresee accuracies:"
        " their own accuracies are not shown; 2 trials outside this space, only to foresee"
        " accuracies; 12 trials not used, which differ in what this space does not search"
        " (optimizer); first come the recipes of the earlier front: 4"
    )
    found = sort_earlier([here[4]], run.space, run.objectives)
    assert describe_earlier(found, learns=False) == (
        "1 trial outside this space, not used: only gain learns from them"
    )
