"""What a search expects of a trial when it begins: asked, stored, and read back. No Ray."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ledger_runs import Run
from scipy.stats import norm
from searches import metrics

from search.decisions.gain.index import DEVIATIONS, Outlook
from search.decisions.gain.rule import GainRule
from search.decisions.stopping import Pause, StoppingRule
from search.decisions.trial_record import EXPECTED, RECIPE, TrialRecord, read_record
from spaces.errors import UserError

SMALL: dict[str, Any] = {
    "input_size": [32, 64, 96, 128],
    "learning_rate": [1e-4, 1e-3, 1e-2],
    "epochs": 2,
}


def rules(rule: str) -> StoppingRule:
    return GainRule() if rule == "gain" else StoppingRule()


def stored(run: Run) -> list[dict[str, Any]]:
    return [trial.user_attrs for trial in run.study.get_trials(deepcopy=False)]


@pytest.mark.parametrize(
    ("sampler", "rule"), [("gain", "none"), ("random", "gain"), ("random", "none")]
)
def test_a_trial_is_expected_to_do_something_only_where_it_is_rated_by_gain(
    sampler: str, rule: str, tmp_path: Path
):
    run = Run(tmp_path, content=SMALL, sampler=sampler, rule=rules(rule))
    for accuracy in (0.3, 0.4, 0.5):
        run.finish(run.ask(), accuracy)
    begun = run.ask()
    rated = "gain" in (sampler, rule)
    assert (begun.expected is not None) == rated
    assert (EXPECTED in stored(run)[begun.number]) == rated
    if begun.expected is not None:
        expected = begun.expected
        assert 0 <= expected.low < expected.accuracy < expected.high <= 1
        assert expected.gain >= 0
        assert expected.seconds == 2.0  # an epoch of this ledger is a second


def test_before_any_result_half_of_what_is_expected_is_above_one_half(tmp_path: Path):
    expected = Run(tmp_path, content=SMALL, sampler="gain").ask().expected
    assert expected is not None
    assert expected.accuracy == pytest.approx(0.5)
    assert expected.low == pytest.approx(1 - expected.high)


def test_what_was_expected_stays_as_it_was_whatever_comes_out_and_over_a_resume(tmp_path: Path):
    run = Run(tmp_path, content=SMALL, sampler="gain")
    first, second = run.ask(), run.ask()
    expected = {record.number: record.expected for record in (first, second)}
    assert None not in expected.values()
    run.finish(first, 0.7)
    run.reopen()
    again = run.ask()
    assert again.number == second.number
    run.finish(again, 0.6)
    run.reopen()
    assert {number: record.expected for number, record in run.ledger.records.items()} == expected


class FirstEpochRule(GainRule):
    """Pauses every trial after its first epoch."""

    def decide(self, trial: TrialRecord, context: Any) -> Pause:
        return Pause(reason="gain: made up")

    def resume(self, paused: Any, context: Any, *, may_begin: bool) -> TrialRecord | None:
        return next(iter(paused))


def test_a_trial_that_goes_on_is_not_expected_anew(tmp_path: Path):
    run = Run(tmp_path, content=SMALL, rule=FirstEpochRule())
    record = run.ask()
    before = record.expected
    run.ledger.report(record.number, [metrics(1, 0.9)])
    run.ledger.pause(record.number, "gain: made up")
    assert run.ask() is record
    assert record.expected is before is not None


def test_nothing_is_expected_of_a_trial_that_does_not_begin(tmp_path: Path):
    one = {"learning_rate": [1e-3], "epochs": 2}
    run = Run(tmp_path, content=one, sampler="random", rule=GainRule())
    run.finish(run.ask(), 0.5)
    assert run.ledger.propose() is None
    assert run.ledger.records[1].reused == 0
    assert run.ledger.records[1].expected is None


def test_a_storage_without_expectations_is_read_and_a_damaged_one_has_a_line(tmp_path: Path):
    run = Run(tmp_path, content=SMALL, sampler="gain")
    record = run.ask()
    [frozen] = run.study.get_trials()
    assert read_record(frozen)[0].expected == record.expected
    assert record.expected is not None
    for damaged in ({"low": 0.1}, {**asdict(record.expected), "low": "x"}, [0.1, 0.2]):
        frozen.user_attrs = {**frozen.user_attrs, EXPECTED: damaged}
        with pytest.raises(UserError, match="trial 0: damaged"):
            read_record(frozen)
    frozen.user_attrs = {RECIPE: frozen.user_attrs[RECIPE]}
    assert read_record(frozen)[0].expected is None


def test_quantiles_of_an_outlook_are_exact_for_a_normal_distribution():
    outlook = Outlook(gain=0.0, left=1.0, price=0.0, accuracies=0.5 + 0.1 * DEVIATIONS)
    for share in (0.1, 0.5, 0.9):
        assert outlook.accuracy_below(share) == pytest.approx(0.5 + 0.1 * norm.ppf(share))


def test_a_trial_of_a_table_without_seconds_has_a_rate_too():
    outlook = Outlook(gain=0.5, left=0.0, price=0.1, accuracies=0.5 + 0.0 * DEVIATIONS)
    assert outlook.rate == pytest.approx(5.0)
    assert outlook.rate_once_paid > outlook.rate
