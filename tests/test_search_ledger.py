import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import optuna
import pytest
from ledger_runs import (
    CONDITIONAL,
    TWO,
    Run,
    made_up_cost,
    recipe_of,
    told_states,
)
from optuna.trial import TrialState
from searches import metrics

from search.decisions.budget import SpaceExhaustedError
from search.decisions.ledger import MAX_FAILURES_FROM_START
from search.decisions.samplers import SAMPLERS
from search.decisions.trial_record import TrialRecord
from search.storage.optuna_storage import JOURNAL, open_study
from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.costing.figures import Cost


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_keeps_the_contract(sampler: str, tmp_path: Path):
    trials = 16 if sampler == "gp" else 25  # a process is slow to fit, and begins after ten trials
    straight = Run(tmp_path / "straight", sampler=sampler)
    straight.ledger.enqueue([Recipe(input_size=64, learning_rate=1e-3), Recipe(epochs=7)])
    straight.search(trials=trials)

    frozen = straight.study.trials
    assert [trial.number for trial in frozen] == list(range(trials))
    assert {
        trial_id: len(states) for trial_id, states in told_states(straight.journal).items()
    } == {trial._trial_id: 1 for trial in frozen}
    assert {trial.state for trial in frozen} == {TrialState.COMPLETE, TrialState.FAIL}
    for trial, record in zip(frozen, straight.ledger.records.values(), strict=True):
        assert trial.state == record.state
        if trial.state == TrialState.FAIL:
            assert trial.values is None
            assert record.accuracy is None
            assert record.error == "loss is NaN in epoch 1"
        else:
            assert record.cost is not None
            assert trial.values == [record.accuracy, record.cost.effective_gflops]

    again = Run(tmp_path / "again", sampler=sampler)
    again.ledger.enqueue([Recipe(input_size=64, learning_rate=1e-3), Recipe(epochs=7)])
    again.search(trials=trials, reopen_every=5)
    assert again.recipes == straight.recipes

    other = Run(tmp_path / "other", sampler=sampler, seed=1)
    other.search(trials=10)
    assert other.recipes[:8] != straight.recipes[2:10]


_IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from test_search_ledger import SAMPLERS, Run
found = {}
for sampler in SAMPLERS:
    run = Run(Path(sys.argv[2]) / sampler, sampler=sampler)
    run.search(trials=13)
    found[sampler] = [recipe.key for recipe in run.recipes]
print(json.dumps(found))
"""


def test_another_process_proposes_the_same(tmp_path: Path):
    """Python salts the hashes of text by process: nothing may depend on the order of a set."""
    tests = Path(__file__).parent
    process = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS, str(tests), str(tmp_path / "other")],
        cwd=tests.parent,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(tests.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    other = json.loads(process.stdout.splitlines()[-1])
    for sampler in SAMPLERS:
        run = Run(tmp_path / sampler, sampler=sampler)
        run.search(trials=13)
        assert other[sampler] == [recipe.key for recipe in run.recipes]


@pytest.mark.parametrize("objectives", [{"accuracy": "max"}, {**TWO, "params": "min"}])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_takes_one_objective_or_three(
    sampler: str, objectives: dict[str, str], tmp_path: Path
):
    run = Run(tmp_path, sampler=sampler, objectives=objectives)
    run.search(trials=13)
    assert len(run.ledger.in_state(TrialState.COMPLETE, TrialState.FAIL)) == 13


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_recipes_that_were_enqueued_have_children_too(sampler: str, tmp_path: Path):
    run = Run(tmp_path, sampler=sampler)
    run.ledger.enqueue([Recipe(input_size=64, learning_rate=1e-3)])
    run.search(trials=3)
    generations = [
        value
        for trial in run.study.trials
        for key, value in trial.system_attrs.items()
        if key.endswith(":generation")
    ]
    assert generations == [0, 0, 0]


@pytest.mark.parametrize("accuracy", [math.nan, math.inf])
def test_an_accuracy_that_is_no_number_is_told_as_failed(accuracy: float, tmp_path: Path):
    run = Run(tmp_path)
    record = run.ask()
    run.finish(record, accuracy=accuracy)
    assert (record.state, record.accuracy) == (TrialState.FAIL, None)
    assert record.error == f"ended without a finite accuracy: {accuracy}"
    assert run.study.trials[0].values is None
    run.reopen()
    assert run.ledger.records[0].error == record.error


def test_a_trial_that_reported_no_epoch_fails(tmp_path: Path):
    run = Run(tmp_path)
    run.ledger.complete(run.ask().number)
    assert run.study.trials[0].state == TrialState.FAIL


def test_a_trial_is_not_told_twice(tmp_path: Path):
    run = Run(tmp_path)
    record = run.ask()
    run.finish(record, accuracy=0.5)
    with pytest.raises(AssertionError, match="trial 0 is told twice"):
        run.ledger.fail(record.number, "late")
    assert run.study.trials[0].state == TrialState.COMPLETE


def test_what_was_recorded_comes_back_from_the_storage(tmp_path: Path):
    now = 100.0
    run = Run(tmp_path, clock=lambda: now)
    run.search(trials=6)
    now += 12.5
    run.search(trials=12)
    run.ledger.save_seconds_searched()
    before = [asdict(record) for record in run.ledger.records.values()]
    run.reopen()
    after = [asdict(record) for record in run.ledger.records.values()]
    assert repr(after) == repr(before)  # NaN is not equal to itself
    assert run.ledger.seconds_searched == 12.5
    assert {record.search_seconds for record in run.ledger.records.values()} == {0.0, 12.5}


def test_interrupted_trials_are_handed_out_first_with_their_numbers_and_recipes(tmp_path: Path):
    run = Run(tmp_path)
    records = [run.ask() for _ in range(4)]
    run.finish(records[1], accuracy=0.5)
    run.reopen()
    handed = [run.ask_within(0) for _ in range(4)]
    assert [(r.number, r.recipe) if r else None for r in handed] == [
        *((records[number].number, records[number].recipe) for number in (0, 2, 3)),
        None,
    ]
    assert run.ask().number == 4
    assert [record.cost for record in records] == [
        made_up_cost(recipe_of(record)) for record in records
    ]


def test_epochs_that_a_resumed_trial_repeats_are_taken_once():
    record = TrialRecord(number=0, recipe=Recipe())
    record.add_epochs([metrics(1, 0.1), metrics(2, 0.2)])
    record.add_epochs([metrics(2, 0.25), metrics(3, 0.3)])
    assert [(one.epoch, one.accuracy) for one in record.epochs] == [(1, 0.1), (2, 0.25), (3, 0.3)]
    assert record.seconds == 1.5


TINY = {"batch_size": [16, 32], "batch_norm": [False, True]}


def test_a_finished_recipe_is_reused_and_not_handed_out(tmp_path: Path):
    run = Run(tmp_path, content=TINY)
    handed = []
    for _ in range(4):
        handed.append(run.ask())
        run.finish(handed[-1], accuracy=0.5)
    with pytest.raises(SpaceExhaustedError):
        run.ask()
    assert len({record.recipe.key for record in handed}) == len(handed) == 4
    reused = [record for record in run.ledger.records.values() if record.reused is not None]
    assert len(reused) == len(run.ledger.records) - 4 >= 200
    for record in reused:
        source = run.ledger.records[record.reused or 0]
        assert (record.recipe, record.accuracy) == (source.recipe, source.accuracy)
        assert (record.epochs, source.reused) == ([], None)
    assert {trial.state for trial in run.study.trials} == {TrialState.COMPLETE}


def test_repetitions_count_against_the_budget(tmp_path: Path):
    run = Run(tmp_path, content={"epochs": 1})
    run.finish(run.ask(), accuracy=0.5)
    assert run.ask_within(7) is None
    assert len(run.ledger.records) == 7


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("ending", ["complete", "fail"])
def test_a_recipe_that_is_being_trained_is_waited_for(ending: str, reopened: bool, tmp_path: Path):
    run = Run(tmp_path, content={"epochs": 1})
    leader = run.ask()
    assert run.ask_within(3) is None
    if reopened:
        run.reopen()
        leader = run.ask()
        assert leader.number == 0
        assert run.ask_within(0) is None
    if ending == "complete":
        run.finish(leader, accuracy=0.5)
    else:
        run.ledger.fail(leader.number, "out of memory")
    followers = [run.ledger.records[number] for number in (1, 2)]
    if ending == "complete":
        assert [(one.state, one.accuracy, one.reused) for one in followers] == [
            (TrialState.COMPLETE, 0.5, 0)
        ] * 2
    else:
        assert [one.error for one in followers] == ["as trial 0: out of memory"] * 2
    assert not run.ledger.in_state(TrialState.RUNNING)


def test_a_failed_recipe_is_tried_again_when_it_is_proposed_again(tmp_path: Path):
    run = Run(tmp_path, content={"epochs": 1})
    run.ledger.fail(run.ask().number, "the process died")
    assert run.ask().recipe == run.ledger.records[0].recipe


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_enqueued_recipes_come_first_in_order_also_from_outside_the_space(
    sampler: str, tmp_path: Path
):
    recipes = [
        Recipe(input_size=64, learning_rate=1e-3, epochs=2, width=0.5),
        Recipe(model="resnet18", learning_rate=5.0, epochs=9),
        Recipe(model="mobilenet_v2", unfrozen=50),
    ]
    run = Run(tmp_path, sampler=sampler)
    run.ledger.enqueue(recipes)
    first = run.ask()
    run.reopen()
    handed = [run.ask() for _ in range(4)]
    assert handed[0].number == first.number == 0
    assert [record.recipe for record in handed[:3]] == recipes
    assert handed[3].recipe not in recipes
    assert run.study.trials[1].params == {"weight_decay": 0.0}
    assert run.study.trials[2].params["model"] == "mobilenet_v2"


def test_a_recipe_without_a_cost_fails_with_its_reason_and_the_next_is_asked_for(tmp_path: Path):
    def measure(recipe: Recipe) -> Cost:
        if recipe.model == "mobilenet_v2":
            raise UserError("input_size: too small for mobilenet_v2")
        return made_up_cost(recipe)

    run = Run(tmp_path, measure=measure)
    run.search(trials=20)
    for record in run.ledger.records.values():
        if recipe_of(record).model == "mobilenet_v2":
            assert record.state == TrialState.FAIL
            assert record.error == "input_size: too small for mobilenet_v2"
    assert {recipe_of(record).model for record in run.ledger.records.values()} == set(
        CONDITIONAL["model"]
    )


def test_fields_that_do_not_fit_each_other_fail_one_trial_and_not_the_search(tmp_path: Path):
    # So rare that reading the space does not find it; here the one recipe of its kind.
    seeds = {"int": [0, 10**6]}
    content = {"seed": seeds, "weights": {"fixed": "imagenet", "when": {"seed": 123_456}}}
    run = Run(tmp_path, content=content)
    run.study.enqueue_trial({"seed": 123_456})
    record = run.ask()
    assert record.number == 1
    assert run.ledger.records[0].state == TrialState.FAIL
    assert str(run.ledger.records[0].error).startswith(
        "drawn fields do not fit each other: weights"
    )
    run.reopen()
    assert run.ask().number == 1


@pytest.mark.parametrize(
    ("state", "outcome", "error"),
    [
        (TrialState.COMPLETE, lambda run, record: run.finish(record, accuracy=0.5), None),
        (TrialState.FAIL, lambda run, record: run.ledger.fail(record.number, "why"), "why"),
    ],
)
def test_a_crash_between_storing_an_outcome_and_telling_it_is_made_good(
    state: TrialState,
    outcome: Callable[[Run, TrialRecord], None],
    error: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    run = Run(tmp_path)
    record, other = run.ask(), run.ask()

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", die)
        with pytest.raises(KeyboardInterrupt):
            outcome(run, record)
    assert told_states(run.journal) == {}
    for _ in range(2):
        run.reopen()
        assert run.study.trials[0].state == run.ledger.records[0].state == state
        assert [len(states) for states in told_states(run.journal).values()] == [1]
    assert run.ledger.records[0].error == error
    assert run.ask().number == other.number


@pytest.mark.parametrize("sampler", ["tpe", "gain"])
@pytest.mark.parametrize("lines", range(1, 12))
def test_a_crash_at_any_line_of_a_proposal_changes_nothing(
    sampler: str, lines: int, tmp_path: Path
):
    straight = Run(tmp_path / "straight", sampler=sampler)
    straight.search(12, workers=1)
    run = Run(tmp_path / "crashed", sampler=sampler)
    run.search(11, workers=1)
    before = run.journal.read_bytes()
    run.ask()
    written = run.journal.read_bytes()[len(before) :].splitlines(keepends=True)
    run.journal.write_bytes(before + b"".join(written[:lines]))
    run.reopen()
    assert run.ask().number == 11
    assert run.recipes == straight.recipes


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_last_line_and_a_lock_left_behind_are_mended(cut: int, tmp_path: Path):
    run = Run(tmp_path)
    run.search(trials=5)
    whole = run.journal.read_bytes()
    run.journal.write_bytes(whole[:-cut])
    run.journal.with_name(JOURNAL + ".lock").symlink_to(run.journal)
    run.reopen()
    run.search(trials=8)
    assert [len(states) for states in told_states(run.journal).values()] == [1] * 8
    assert len(run.ledger.records) == 8


def test_a_journal_that_is_missing_or_damaged_has_a_line(tmp_path: Path):
    with pytest.raises(UserError, match="no study was begun here"):
        open_study(tmp_path, "test")
    run = Run(tmp_path)
    with pytest.raises(UserError, match="no study was begun here"):
        open_study(tmp_path, "another")
    run.search(trials=3)
    lines = run.journal.read_bytes().splitlines(keepends=True)
    lines[5] = b"not json\n"
    run.journal.write_bytes(b"".join(lines))
    with pytest.raises(UserError, match="damaged"):
        run.reopen()


def brute_force(records: Iterable[TrialRecord]) -> set[int]:
    def losses(record: TrialRecord) -> tuple[float, float]:
        assert record.accuracy is not None
        assert record.cost is not None
        return -record.accuracy, record.cost.effective_gflops

    points = {record.number: losses(record) for record in records}
    return {
        number
        for number, point in points.items()
        if not any(
            other != point and all(a <= b for a, b in zip(other, point, strict=True))
            for other in points.values()
        )
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_front_equals_a_brute_force_search_from_the_cheapest_on(seed: int, tmp_path: Path):
    run = Run(tmp_path, seed=seed)
    assert run.ledger.front() == []
    run.search(trials=40)
    front = run.ledger.front()
    complete = run.ledger.in_state(TrialState.COMPLETE)
    assert {record.number for record in front} == brute_force(complete)
    assert len(front) > 1
    costs = [record.cost.effective_gflops for record in front if record.cost]
    assert costs == sorted(costs)
    assert [trial.number for trial in run.study.best_trials] == sorted(
        record.number for record in front
    )


def test_checkpoints_of_dominated_trials_are_dropped_for_good(tmp_path: Path):
    run = Run(tmp_path)
    run.search(trials=20)
    front = {record.number for record in run.ledger.front()}
    for _ in range(2):
        kept = {r.number for r in run.ledger.records.values() if r.checkpoint is not None}
        assert kept == front
        assert run.ledger.front()[0].checkpoint is not None
        run.reopen()


def test_where_dominated_trials_are_kept_they_begin_and_keep_their_checkpoints(tmp_path: Path):
    run = Run(tmp_path, keep_dominated=True)
    run.finish(run.ask(), accuracy=1.0)
    run.search(trials=20)
    for _ in range(2):
        complete = run.ledger.in_state(TrialState.COMPLETE)
        assert len(run.ledger.front()) < len(complete)
        assert {r.number for r in complete if r.checkpoint is None} == set()
        assert run.ledger.in_state(TrialState.PRUNED) == []
        run.reopen()


def test_the_outcome_of_a_trial_can_be_read_by_optuna_alone(tmp_path: Path):
    run = Run(tmp_path)
    run.search(trials=3)
    study = optuna.load_study(study_name="test", storage=run.study._storage)
    assert [Recipe(**trial.user_attrs["recipe"]) for trial in study.trials] == run.recipes


def test_a_search_whose_first_trials_all_fail_is_given_up(tmp_path: Path):
    run = Run(tmp_path)
    for count in range(MAX_FAILURES_FROM_START):
        assert not run.ledger.should_abort(), count
        run.ledger.fail(run.ask().number, "out of memory")
    assert run.ledger.should_abort()
    # Whoever resumes has mended something: what failed before counts no more.
    run.reopen()
    assert not run.ledger.should_abort()


def test_one_trial_that_trains_or_finished_keeps_a_search_going(tmp_path: Path):
    run = Run(tmp_path)
    record = run.ask()
    for _ in range(2 * MAX_FAILURES_FROM_START):
        run.ledger.fail(run.ask().number, "out of memory")
    assert run.ledger.should_abort()
    record.add_epochs([metrics(1, 0.5)])
    assert not run.ledger.should_abort()
    run.ledger.complete(record.number)
    assert not run.ledger.should_abort()


def test_recipes_are_enqueued_once_however_often_that_is_asked_for(tmp_path: Path):
    run = Run(tmp_path)
    recipes = [Recipe(input_size=64, learning_rate=1e-3), Recipe(epochs=7)]
    run.ledger.enqueue(recipes[:1])  # and then the driver was killed
    run.reopen()
    run.ledger.enqueue(recipes)
    assert [recipe_of(run.ask()) for _ in range(2)] == recipes
    run.ledger.enqueue(recipes)
    assert recipe_of(run.ask()) not in recipes
