"""Trials that are stopped at a rung or never begin: told once, kept, and never scored."""

from pathlib import Path
from typing import Any, Literal

import pytest
from ledger_runs import (
    CONDITIONAL,
    TWO,
    Run,
    made_up_cost,
    objectives_of,
    recipe_of,
    told_states,
)
from optuna.trial import TrialState
from searches import metrics

from search.decisions.budget import SpaceExhaustedError
from search.decisions.stopping import Stop, StoppingRule
from search.decisions.stopping_rules import EarlyStoppingSettings, build_stopping_rule
from search.decisions.trial_record import TrialRecord
from spaces.constraints import read_study_constraint
from spaces.recipe import Recipe
from trainables.learning.metrics import EpochMetrics

LONG = {**CONDITIONAL, "epochs": 27, "scheduler": "constant"}


def stopping(name: Literal["pareto", "asha"] = "asha", **settings: Any) -> StoppingRule:
    settings = {"reduction": 3, **settings}
    return build_stopping_rule(EarlyStoppingSettings(name=name, **settings), objectives_of(TWO))


def long_run(folder: Path, **settings: Any) -> Run:
    return Run(folder, content=LONG, rule=stopping(), **settings)


def goes_on(run: Run, record: TrialRecord, epochs: list[EpochMetrics]) -> bool:
    return not isinstance(run.ledger.report(record.number, epochs), Stop)


def train(run: Run, record: TrialRecord, accuracy: float, *, until: int = 27) -> bool:
    """Report epoch after epoch as a worker would; whether the trial still goes on."""
    for epoch in range(len(record.epochs) + 1, until + 1):
        if not goes_on(run, record, [metrics(epoch, accuracy)]):
            return False
    if until == recipe_of(record).epochs:
        run.ledger.complete(record.number)
    return True


def test_a_trial_that_loses_at_a_rung_is_told_as_pruned_once_and_has_no_score(tmp_path: Path):
    run = long_run(tmp_path)
    best, worse = run.ask(), run.ask()
    assert train(run, best, 0.9)
    assert not train(run, worse, 0.1)
    assert (best.state, worse.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert (worse.accuracy, worse.error, len(worse.epochs)) == (None, None, 1)
    assert worse.stop_reason == (
        "rung of epoch 1: 1 of 1 others are ahead, and only 1 of these 2 go on"
    )
    stored = run.study.get_trials()[worse.number]
    assert (stored.state, stored.values) == (TrialState.PRUNED, None)
    assert not stored.intermediate_values
    assert told_states(run.journal)[stored._trial_id] == [TrialState.PRUNED.value]
    assert run.ledger.front() == [best]


def test_what_a_stopped_trial_still_reports_changes_nothing(tmp_path: Path):
    run = long_run(tmp_path)
    best, worse = run.ask(), run.ask()
    train(run, best, 0.9)
    train(run, worse, 0.1)
    assert not goes_on(run, worse, [metrics(2, 0.99)])
    assert len(worse.epochs) == 1


def test_a_trial_is_compared_at_each_rung_once(tmp_path: Path):
    run = long_run(tmp_path)
    first = run.ask()
    train(run, first, 0.5, until=5)
    better = run.ask()
    train(run, better, 0.9, until=5)
    # The first was ahead when it passed rungs 1 and 3; that others are better now is no matter.
    assert goes_on(run, first, first.epochs)
    assert train(run, first, 0.5, until=8)
    train(run, better, 0.9, until=9)
    assert not train(run, first, 0.5, until=9)


def test_a_trial_that_has_run_all_of_its_epochs_is_complete_however_it_compares(tmp_path: Path):
    run = long_run(tmp_path)
    train(run, run.ask(), 0.9)
    late = run.ask()
    # All in one report, as after a resume from its last checkpoint.
    assert goes_on(run, late, [metrics(epoch, 0.1) for epoch in range(1, 28)])
    run.ledger.complete(late.number)
    assert late.state == TrialState.COMPLETE


@pytest.mark.parametrize("reopened", [False, True])
def test_rungs_survive_the_driver(tmp_path: Path, reopened: bool):
    """Who goes on after a crash is whom it would have been without one."""
    run = long_run(tmp_path)
    running = [run.ask() for _ in range(4)]
    for record, accuracy in zip(running[:3], [0.3, 0.6, 0.9], strict=True):
        assert train(run, record, accuracy, until=4)
    if reopened:
        run.reopen_with(stopping())
        again = [run.ask() for _ in range(4)]
        assert [record.number for record in again] == [0, 1, 2, 3]
        assert again[2].rungs == {1: 0.9, 3: 0.9}
        running = again
    # Two of four go on: not the third, who would if nothing were known of those ahead.
    assert not train(run, running[3], 0.5, until=1)


def test_stopped_trials_stay_in_the_comparison_after_a_crash(tmp_path: Path):
    run = long_run(tmp_path)
    for accuracy in (0.9, 0.2, 0.2, 0.2):
        train(run, run.ask(), accuracy)
    run.reopen_with(stopping())
    # Second of five: two may go on.
    assert train(run, run.ask(), 0.5, until=2)
    # Third of six, two may go on: it would go on if those that were stopped had been forgotten.
    assert not train(run, run.ask(), 0.4, until=2)


def test_a_recipe_that_was_stopped_is_not_trained_again(tmp_path: Path):
    run = Run(
        tmp_path,
        content={"width": [0.25, 0.5], "epochs": 27},
        rule=stopping(),
        sampler="random",
    )
    best, worse = run.ask(), run.ask()
    train(run, best, 0.9)
    train(run, worse, 0.1)
    with pytest.raises(SpaceExhaustedError):
        run.ask()
    followers = [r for r in run.ledger.records.values() if r.reused == worse.number]
    assert followers
    assert {record.state for record in followers} == {TrialState.PRUNED}


def test_a_trial_that_waits_for_one_that_is_stopped_is_stopped_with_it(tmp_path: Path):
    run = Run(tmp_path, content={"width": [0.25, 0.5], "epochs": 27}, rule=stopping())
    best, worse = run.ask(), run.ask()
    run.ask_within(10)
    train(run, best, 0.9)
    train(run, worse, 0.1)
    states = {record.number: record.state for record in run.ledger.records.values()}
    assert set(states.values()) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert list(states) == list(range(10))


def bounded(folder: Path, **settings: Any) -> Run:
    # made_up_cost: 0.25 to 2.2 GFLOPs.
    return Run(folder, constraints=[read_study_constraint("gflops", "<= 1.5")], **settings)


def test_a_trial_whose_cost_breaks_a_constraint_never_begins(tmp_path: Path):
    run = bounded(tmp_path)
    handed_out = [run.ask() for _ in range(20)]
    assert all(made_up_cost(recipe_of(record)).gflops <= 1.5 for record in handed_out)
    refused = [r for r in run.ledger.records.values() if r.state == TrialState.PRUNED]
    assert refused
    for record in refused:
        assert record.cost is not None
        assert record.cost.gflops > 1.5
        assert record.error is not None
        assert record.error.startswith("constraint gflops<=1.5: it is ")
        assert not record.epochs
        assert run.study.get_trials()[record.number].constraints["gflops"] > 0
    held = run.study.get_trials()[handed_out[0].number].constraints["gflops"]
    assert held <= 0
    # Those that never began take nothing of the budget.
    assert run.ledger.num_begun == 20


def test_refused_trials_stay_refused_after_a_crash(tmp_path: Path):
    run = bounded(tmp_path)
    for _ in range(5):
        run.ask()
    before = {n: (r.state, r.error) for n, r in run.ledger.records.items()}
    run.reopen()
    assert {n: (r.state, r.error) for n, r in run.ledger.records.items()} == before
    assert run.ledger.num_begun == 5


def test_constraints_that_nothing_keeps_end_the_search(tmp_path: Path):
    run = Run(tmp_path, constraints=[read_study_constraint("gflops", "<= 0.0001")])
    with pytest.raises(SpaceExhaustedError):
        run.ask()


def test_a_trial_that_could_not_reach_the_front_even_if_it_were_perfect_never_begins(
    tmp_path: Path,
):
    run = Run(tmp_path, content={"width": {"float": [0.1, 1.0]}, "epochs": 2})
    perfect = run.ask()
    run.finish(perfect, accuracy=1.0)
    assert perfect.cost is not None
    later = [run.ask() for _ in range(5)]
    assert all(r.cost is not None and r.cost.gflops < perfect.cost.gflops for r in later)
    refused = [r for r in run.ledger.records.values() if r.refused]
    assert refused
    assert {r.error for r in refused} == {
        "out of reach: others reached 100.0 % accuracy at a lower cost"
    }


def curve(*accuracies: float) -> list[EpochMetrics]:
    return [metrics(epoch, accuracy) for epoch, accuracy in enumerate(accuracies, 1)]


@pytest.mark.parametrize("reopened", [False, True])
def test_a_trial_that_falls_short_of_the_front_at_the_best_rate_seen_is_stopped(
    tmp_path: Path, reopened: bool
):
    """Complete trials halved their errors after the second epoch, at best."""
    content = {"learning_rate": {"log": [1e-4, 1e-1]}, "epochs": 4}
    rule = stopping("pareto", reduction=1.01)  # at rungs almost everyone goes on
    run = Run(tmp_path, content=content, rule=rule)
    for end in (0.8, 0.7, 0.6):
        record = run.ask()
        assert goes_on(run, record, curve(0.3, 0.6, 0.6, end))
        run.ledger.complete(record.number)
    if reopened:
        run.reopen_with(stopping("pareto", reduction=1.01))
    short, hopeful = run.ask(), run.ask()
    # Of errors of 0.42 half is left: 0.79 at best, where the front has 0.8 at the same cost.
    assert not goes_on(run, short, curve(0.3, 0.58))
    assert short.state == TrialState.PRUNED
    assert goes_on(run, hopeful, curve(0.3, 0.65))


def test_nothing_falls_short_before_three_curves_are_known(tmp_path: Path):
    content = {"learning_rate": {"log": [1e-4, 1e-1]}, "epochs": 4}
    run = Run(tmp_path, content=content, rule=stopping("pareto", reduction=1.01))
    for _ in range(2):
        record = run.ask()
        run.ledger.report(record.number, curve(0.9, 0.9, 0.9, 0.9))
        run.ledger.complete(record.number)
    assert goes_on(run, run.ask(), curve(0.1, 0.1))


def test_a_trial_that_is_beyond_the_front_already_is_not_stopped_for_want_of_a_seat(tmp_path: Path):
    """One of three goes on by itself; costs rise with the width."""
    content = {"width": {"float": [0.1, 1.0]}, "epochs": 4}
    run = Run(tmp_path, content=content, rule=stopping("pareto"))
    widths = (0.1, 1.0, 0.5, 0.6, 0.55)
    run.ledger.enqueue([Recipe(width=width, epochs=4) for width in widths])
    cheap, expensive, between, dominated, late = (run.ask() for _ in widths)
    for record, accuracy in ((cheap, 0.2), (expensive, 0.9), (between, 0.8)):
        assert goes_on(run, record, curve(accuracy))
    assert not goes_on(run, dominated, curve(0.7))
    run.ledger.report(between.number, curve(0.8, 0.8, 0.8, 0.85))
    run.ledger.complete(between.number)
    # More accurate than any cheaper one was here, but not than the front.
    assert not goes_on(run, late, curve(0.82))


ENOUGH = [read_study_constraint("accuracy", ">= 50%")]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "gp"])
def test_a_finished_trial_below_a_bound_on_accuracy_is_on_no_front(sampler: str, tmp_path: Path):
    run = Run(tmp_path, sampler=sampler, constraints=ENOUGH)
    for number in range(14):
        record = run.ask()
        run.finish(record, accuracy=0.2 if number % 2 else 0.5 + number / 100)
    assert {record.state for record in run.ledger.records.values()} == {TrialState.COMPLETE}
    assert run.ledger.front()
    for _ in range(2):
        for record in run.ledger.records.values():
            assert record.accuracy is not None
            keeps = record.accuracy >= 0.5
            constraint = run.study.trials[record.number].constraints["accuracy"]
            assert constraint == pytest.approx((0.5 - record.accuracy) / 0.5)
            assert keeps or record.checkpoint is None
            assert keeps or record not in run.ledger.front()
        run.reopen()
    run.ask()  # and samplers take such trials


def test_a_bound_on_accuracy_is_stored_even_if_the_driver_died_before_the_trial_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Run(tmp_path, constraints=ENOUGH)
    record = run.ask()
    monkeypatch.setattr(run.ledger._store, "tell", lambda _: None)
    run.finish(record, accuracy=0.2)
    assert not run.study.trials[0].state.is_finished()
    monkeypatch.undo()
    run.reopen()
    assert run.study.trials[0].state == TrialState.COMPLETE
    assert run.study.trials[0].constraints["accuracy"] == pytest.approx(0.6)
    assert run.ledger.front() == []


def test_the_plateau_is_that_of_the_feasible_front(tmp_path: Path):
    run = Run(tmp_path, constraints=ENOUGH)
    tracker = run.ledger.pareto_tracker
    for accuracy in (0.6, 0.2, 0.7, 0.3):
        run.finish(run.ask(), accuracy=accuracy)
    assert len(tracker.feasible_losses()) == 2
    assert len(tracker.feasible_losses(without_latest=2)) == 1
    assert len(tracker.feasible_losses(without_latest=4)) == 0
