"""What every stopping rule keeps to, over the table of rules."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_runs import Run, objectives_of, recipe_of
from optuna.trial import TrialState
from searches import metrics

from search.decisions.stopping import Decision, Go, Pause, Stop
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
    """Report one epoch of each trial in turn, until all of them are over."""
    while running:
        for record in list(running):
            epoch = len(record.epochs) + 1
            decision = run.ledger.report(
                record.number, [metrics(epoch, accuracy_after(record, epoch))]
            )
            if epoch == EPOCHS:
                run.ledger.complete(record.number)
            if record.state != TrialState.RUNNING:
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
    assert {type(decision) for _, _, decision in one} <= {Go, Stop}


@pytest.mark.parametrize("name", RULES)
def test_what_a_rule_stops_is_pruned_with_its_reason_and_the_rest_is_complete(
    name: str, tmp_path: Path
):
    run = new_run(tmp_path, name)
    stopped = {
        number: decision.reason for number, _, decision in search(run) if isinstance(decision, Stop)
    }
    assert bool(stopped) == (name != "none")
    for number, record in run.ledger.records.items():
        assert record.stop_reason == stopped.get(number)
        if number in stopped:
            what, colon, how = stopped[number].partition(": ")
            assert what
            assert colon
            assert how
            assert record.state == TrialState.PRUNED
            assert len(record.epochs) < EPOCHS
            assert run.study.trials[number].user_attrs["outcome"]["stop_reason"] == stopped[number]
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
    reasons = [record.stop_reason for record in straight.ledger.records.values()]
    interrupted.reopen()
    assert [record.stop_reason for record in interrupted.ledger.records.values()] == reasons


@pytest.mark.parametrize("name", RULES)
def test_a_rule_names_the_epochs_at_which_it_may_stop(name: str):
    rule = build_stopping_rule(EarlyStoppingSettings(name=name), objectives_of(OBJECTIVES))
    rungs = rule.rungs(EPOCHS)
    assert rungs == sorted(set(rungs))
    assert all(0 < rung < EPOCHS for rung in rungs)


def test_a_rule_that_no_table_has_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="paretto is not one of pareto, asha or none; did you"):
        EarlyStoppingSettings(name="paretto")


class LateRule:
    """Stops every trial, after its last epoch too."""

    def __init__(self, after: int) -> None:
        self._after = after

    def observe(self, trial, context) -> None: ...

    def learn(self, trial) -> None: ...

    def rungs(self, epochs: int) -> list[int]:
        return []

    def decide(self, trial, context) -> Decision:
        return Stop(reason="late: enough") if len(trial.epochs) >= self._after else Go()


def test_a_trial_that_has_run_all_of_its_epochs_is_not_stopped_any_more(tmp_path: Path):
    run = Run(tmp_path, content=CONTENT, rule=LateRule(EPOCHS))
    record = run.ask()
    for epoch in range(1, EPOCHS + 1):
        assert run.ledger.report(record.number, [metrics(epoch, 0.5)]) == Go()
    run.ledger.complete(record.number)
    assert (record.state, record.stop_reason) == (TrialState.COMPLETE, None)


class PausingRule:
    def observe(self, trial, context) -> None: ...

    def learn(self, trial) -> None: ...

    def rungs(self, epochs: int) -> list[int]:
        return []

    def decide(self, trial, context) -> Decision:
        return Pause(reason="later: another has more to gain")


def test_pausing_is_said_to_be_impossible_yet(tmp_path: Path):
    run = Run(tmp_path, content=CONTENT, rule=PausingRule())
    with pytest.raises(NotImplementedError, match="can't be paused yet"):
        run.ledger.report(run.ask().number, [metrics(1, 0.5)])
