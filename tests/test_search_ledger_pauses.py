"""Paused trials in the ledger, and which of them `next_trial` hands out. No Ray."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from ledger_runs import Run
from searches import metrics

from search.decisions.budget import SpaceExhaustedError, Spent, next_trial
from search.decisions.stopping import Decision, Go, Pause, StoppingContext, StoppingRule
from search.decisions.trial_record import TrialRecord

CONTENT: dict[str, Any] = {"learning_rate": {"log": [1e-4, 1e-1]}, "epochs": 6}
TWO_RECIPES: dict[str, Any] = {"batch_size": [16, 32], "epochs": 6}


class SecondEpochRule(StoppingRule):
    """Pauses every trial after its second epoch; counts how often it is asked."""

    def __init__(self, *, go_on: bool = True) -> None:
        self._go_on = go_on
        self.asked = 0

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        self.asked += 1
        return Pause(reason="second: enough for now") if len(trial.epochs) == 2 else Go()

    def resume(
        self, paused: Collection[TrialRecord], context: StoppingContext, *, may_begin: bool
    ) -> TrialRecord | None:
        return super().resume(paused, context, may_begin=may_begin) if self._go_on else None


def report(run: Run, record: TrialRecord, *epochs: int) -> Decision:
    return run.ledger.report(record.number, [metrics(epoch, epoch / 10) for epoch in epochs])


def pause(run: Run, record: TrialRecord) -> None:
    assert report(run, record, 1) == Go()
    assert isinstance(report(run, record, 2), Pause)
    run.ledger.pause(record.number, "second: enough for now", checkpoint=f"tune/{record.number}")


def taken(run: Run, limit: Spent | None) -> TrialRecord | None:
    run.ledger.limit_by(lambda: limit)
    return next_trial(run.ledger)


def test_a_pause_whose_save_was_cut_off_is_made_up_for_at_the_same_epoch(tmp_path: Path):
    rule = SecondEpochRule()
    run = Run(tmp_path, content=CONTENT, rule=rule)
    record = run.ask()
    assert report(run, record, 1) == Go()
    decision = report(run, record, 2)
    assert isinstance(decision, Pause)
    run.reopen()
    again = run.ask()
    assert again.number == record.number
    assert (again.paused, again.pausing) == (None, decision.reason)
    assert not run.ledger.paused
    asked = rule.asked
    # Its checkpoint is older, so it trains the first epoch again.
    assert report(run, again, 1) == Go()
    assert report(run, again, 2) == decision
    assert rule.asked == asked
    run.ledger.pause(again.number, decision.reason, checkpoint="tune/0")
    assert (again.paused, again.pausing) == (decision.reason, None)
    assert taken(run, "trials") is again
    assert (again.paused, again.checkpoint) == (None, None)
    assert report(run, again, 1, 2, 3) == Go()


def test_no_rule_is_asked_about_epochs_that_are_repeated_after_a_death(tmp_path: Path):
    rule = SecondEpochRule()
    run = Run(tmp_path, content=CONTENT, rule=rule)
    record = run.ask()
    pause(run, record)
    assert taken(run, "trials") is record
    assert report(run, record, 3, 4) == Go()
    run.ledger.put_back(record.number)
    assert run.ask() is record
    asked = rule.asked
    assert report(run, record, 1, 2, 3) == Go()
    assert rule.asked == asked
    assert len(record.epochs) == 4
    assert report(run, record, 5) == Go()
    assert rule.asked == asked + 1


def test_after_a_crash_what_the_tables_know_counts_until_the_trial_reports(tmp_path: Path):
    run = Run(tmp_path, content=CONTENT, rule=SecondEpochRule())
    record = run.ask()
    pause(run, record)
    taken(run, "trials")
    run.reopen()
    again = run.ledger.records[record.number]
    assert len(again.known_epochs) == 2
    again.earlier_epochs = [metrics(epoch, 0.5) for epoch in (1, 2, 3)]
    assert len(again.known_epochs) == 3
    assert len(again.epochs) == 2
    report(run, again, 1, 2)
    assert len(again.known_epochs) == 2


@pytest.mark.parametrize(
    ("limit", "goes_on"),
    [("trials", True), ("hours", False), ("worker_hours", False), ("plateau", False)],
)
def test_a_paused_trial_needs_no_trial_of_the_budget_but_its_time(
    limit: Spent, goes_on: bool, tmp_path: Path
):
    run = Run(tmp_path, content=CONTENT, rule=SecondEpochRule())
    record = run.ask()
    assert taken(run, limit) is None
    pause(run, record)  # after the first None
    assert (taken(run, limit) is record) == goes_on


def test_a_space_that_is_used_up_is_asked_for_no_more_proposals(tmp_path: Path):
    run = Run(tmp_path, content=TWO_RECIPES, rule=SecondEpochRule())
    first, second = run.ask(), run.ask()
    with pytest.raises(SpaceExhaustedError):
        taken(run, None)
    proposed = len(run.ledger.records)
    pause(run, first)
    pause(run, second)
    assert taken(run, None) is first
    assert taken(run, None) is second
    with pytest.raises(SpaceExhaustedError):
        taken(run, None)
    assert len(run.ledger.records) == proposed


def test_a_rule_may_leave_all_paused_trials_where_they_are(tmp_path: Path):
    run = Run(tmp_path, content=CONTENT, rule=SecondEpochRule(go_on=False))
    pause(run, run.ask())
    assert taken(run, "trials") is None
    assert run.ledger.is_idle
    assert len(run.ledger.paused) == 1
