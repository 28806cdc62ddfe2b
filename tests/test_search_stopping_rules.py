"""What every stopping rule keeps to, over the table of rules."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_runs import Run, objectives_of, recipe_of
from optuna.trial import TrialState
from searches import metrics

from search.decisions.stopping import Decision, Go, Pause, Stop, StoppingContext, StoppingRule
from search.decisions.stopping_rules import (
    STOPPING_RULES,
    EarlyStoppingSettings,
    build_stopping_rule,
)
from search.decisions.trial_record import TrialRecord

EPOCHS = 9
CONTENT: dict[str, Any] = {
    "input_size": {"int": [32, 128], "step": 16},
    "width": [0.25, 0.5, 1.0],
    "learning_rate": {"log": [1e-4, 1e-1]},
    "epochs": EPOCHS,
}
OBJECTIVES = {"accuracy": "max", "effective_gflops": "min"}
RULES = sorted(STOPPING_RULES)


def new_run(folder: Path, name: str) -> Run:
    rule = build_stopping_rule(EarlyStoppingSettings(name=name), objectives_of(OBJECTIVES))
    return Run(folder, content=CONTENT, rule=rule)


def accuracy_after(record: TrialRecord, epoch: int) -> float:
    """A curve that follows from the recipe: fast at first, and at high rates worse in the end."""
    recipe = recipe_of(record)
    best = 0.9 - abs(math.log10(recipe.learning_rate) + 2.5) / 4
    lost = 0.05 * max(0, epoch - 3) if recipe.learning_rate > 0.02 else 0.0
    return max(0.0, best * (1 - 0.7 ** (epoch * recipe.width)) - lost)


def epochs_of(run: Run, running: list[TrialRecord]) -> Iterator[tuple[TrialRecord, Decision]]:
    """Report one epoch of each trial in turn, until all of them are over or paused."""
    while running:
        for record in list(running):
            epoch = len(record.epochs) + 1
            decision = run.ledger.report(
                record.number, [metrics(epoch, accuracy_after(record, epoch))]
            )
            if isinstance(decision, Pause):
                run.ledger.pause(record.number, decision.reason)
            elif epoch == EPOCHS:
                run.ledger.complete(record.number)
            if record.state != TrialState.RUNNING or record.paused:
                running.remove(record)
            yield record, decision


def search(run: Run, trials: int = 30, workers: int = 3) -> list[tuple[int, int, Decision]]:
    """(trial, epoch, decision) in the order in which they were made."""
    made: list[tuple[int, int, Decision]] = []
    for _ in range(trials // workers):
        running = [run.ask() for _ in range(workers)]
        made += [
            (record.number, len(record.epochs), decision)
            for record, decision in epochs_of(run, running)
        ]
    return made


@pytest.mark.parametrize("name", RULES)
def test_a_rule_decides_the_same_again(name: str, tmp_path: Path):
    one, other = (search(new_run(tmp_path / folder, name)) for folder in ("one", "other"))
    assert one == other
    assert {type(decision) for _, _, decision in one} <= {Go, Stop, Pause}


@pytest.mark.parametrize("name", RULES)
def test_what_a_rule_stops_or_pauses_has_its_reason_and_the_rest_is_complete(
    name: str, tmp_path: Path
):
    run = new_run(tmp_path, name)
    last = {number: decision for number, _, decision in search(run)}
    ended = {n: decision for n, decision in last.items() if isinstance(decision, Stop | Pause)}
    assert bool(ended) == (name != "none")
    for decision in ended.values():
        what, colon, how = decision.reason.partition(": ")
        assert what
        assert colon
        assert how
    for number, record in run.ledger.records.items():
        decision = ended.get(number)
        if isinstance(decision, Stop):
            assert record.state == TrialState.PRUNED
            assert record.stop_reason == decision.reason
            assert len(record.epochs) < EPOCHS
            stored = run.study.trials[number].user_attrs["outcome"]
            assert stored["stop_reason"] == decision.reason
        elif isinstance(decision, Pause):
            assert record.state == TrialState.RUNNING
            assert record.paused == decision.reason
            assert len(record.epochs) < EPOCHS
        else:
            assert record.state == TrialState.COMPLETE
            assert len(record.epochs) == EPOCHS


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_was_interrupted_decides_as_one_that_was_not(name: str, tmp_path: Path):
    """Trials that are over by then, and the rungs of those that run, are all that it needs."""
    straight = new_run(tmp_path / "straight", name)
    before = search(straight, trials=15)
    after = search(straight, trials=15)
    interrupted = new_run(tmp_path / "interrupted", name)
    assert search(interrupted, trials=15) == before
    interrupted.reopen_with(
        build_stopping_rule(EarlyStoppingSettings(name=name), objectives_of(OBJECTIVES))
    )
    assert search(interrupted, trials=15) == after
    reasons = [(one.stop_reason, one.paused) for one in straight.ledger.records.values()]
    interrupted.reopen()
    assert [(one.stop_reason, one.paused) for one in interrupted.ledger.records.values()] == reasons


@pytest.mark.parametrize("name", RULES)
def test_a_rule_names_the_epochs_at_which_it_may_stop(name: str):
    rule = build_stopping_rule(EarlyStoppingSettings(name=name), objectives_of(OBJECTIVES))
    rungs = rule.rungs(EPOCHS)
    assert rungs == sorted(set(rungs))
    assert all(0 < rung < EPOCHS for rung in rungs)


def test_a_rule_that_no_table_has_is_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match="paretto is not one of gain, pareto, asha or none; did you"
    ):
        EarlyStoppingSettings(name="paretto")


class LateRule(StoppingRule):
    """Stops every trial, after its last epoch too."""

    def __init__(self, after: int) -> None:
        self._after = after

    def decide(self, trial, context) -> Decision:
        return Stop(reason="late: enough") if len(trial.epochs) >= self._after else Go()


def test_a_trial_that_has_run_all_of_its_epochs_is_not_stopped_any_more(tmp_path: Path):
    run = Run(tmp_path, content=CONTENT, rule=LateRule(EPOCHS))
    record = run.ask()
    for epoch in range(1, EPOCHS + 1):
        assert run.ledger.report(record.number, [metrics(epoch, 0.5)]) == Go()
    run.ledger.complete(record.number)
    assert (record.state, record.stop_reason) == (TrialState.COMPLETE, None)


class PausingRule(StoppingRule):
    """Pauses every trial after its first epoch, and gives up those in `hopeless`."""

    def __init__(self, *hopeless: int) -> None:
        self.hopeless = hopeless

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        return Pause(reason="later") if len(trial.epochs) == 1 else Go()

    def give_up(self, paused: Collection[TrialRecord], context: StoppingContext) -> dict[int, str]:
        return {one.number: "no hope" for one in paused if one.number in self.hopeless}


def paused_after_an_epoch(run: Run, accuracy: float) -> TrialRecord:
    record = run.ask()
    decision = run.ledger.report(record.number, [metrics(1, accuracy)])
    assert decision == Pause(reason="later")
    run.ledger.pause(record.number, "later", checkpoint=f"tune/{record.number}")
    return record


def test_a_paused_trial_goes_on_once_no_new_one_may_begin(tmp_path: Path):
    run = Run(tmp_path, content=CONTENT, rule=PausingRule())
    first, second = paused_after_an_epoch(run, 0.5), paused_after_an_epoch(run, 0.6)
    assert [first.paused, second.paused] == ["later", "later"]
    assert run.ledger.is_idle
    assert run.ask_within(2) is first
    assert first.paused is None
    assert not run.ledger.is_idle
    assert run.ledger.report(first.number, [metrics(2, 0.7)]) == Go()
    run.ledger.complete(first.number)
    assert run.study.trials[first.number].state == TrialState.COMPLETE
    assert run.study.trials[second.number].state == TrialState.RUNNING


def test_paused_trials_survive_the_driver(tmp_path: Path):
    run = Run(tmp_path, content=CONTENT, rule=PausingRule())
    paused, running = paused_after_an_epoch(run, 0.5), paused_after_an_epoch(run, 0.6)
    run.ledger.resume_paused(may_begin=False)
    running, paused = paused, running
    run.reopen()
    assert list(run.ledger.paused) == [paused.number]
    assert run.ledger.next_interrupted == running.number
    again = run.ledger.records[paused.number]
    assert (again.paused, again.checkpoint) == ("later", f"tune/{paused.number}")
    assert [one.accuracy for one in again.epochs] == [0.6]
    # What went on has the epochs of its checkpoint too: others are judged by them.
    assert [one.accuracy for one in run.ledger.records[running.number].epochs] == [0.5]


def test_a_paused_trial_that_is_given_up_is_told_as_pruned_with_the_reason(tmp_path: Path):
    run = Run(tmp_path, content=CONTENT, rule=PausingRule(0))
    hopeless, other = paused_after_an_epoch(run, 0.1), paused_after_an_epoch(run, 0.6)
    assert hopeless.state == TrialState.PRUNED
    assert hopeless.stop_reason == "no hope"
    assert run.ledger.given_up == [hopeless]
    assert list(run.ledger.paused) == [other.number]
    run.ledger.give_up_all("the budget is used up")
    assert other.stop_reason == "the budget is used up"
    assert run.study.trials[other.number].state == TrialState.PRUNED
    assert run.ledger.is_idle


def test_a_paused_trial_counts_in_the_budget_and_its_time_too(tmp_path: Path):
    run = Run(tmp_path, content=CONTENT, rule=PausingRule())
    record = paused_after_an_epoch(run, 0.5)
    assert run.ledger.num_begun == 1
    assert run.ledger.worker_seconds == record.epochs[0].seconds > 0
