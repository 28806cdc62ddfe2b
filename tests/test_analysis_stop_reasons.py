from dataclasses import replace

import pytest
from analysis_runs import trial_row, write_run

from analysis.results.stop_reasons import reason_kind, stop_reasons
from analysis.runs import read_run

RUNG = "rung of 2 epochs: {} of 5 trials of the same schedule are ahead"
OUTLOOK = "even at the best rate seen it would end at {} %, which trial 7 dominates"


def stopped_run(path, reasons):
    rows = [trial_row(trial, 0.5, 0.1, state="PRUNED") for trial in range(len(reasons))]
    rows.append(trial_row(len(reasons), 0.9, 0.2))
    run = read_run(write_run(path, rows))
    return replace(run, trials=run.trials.assign(stop_reason=[*reasons, None]))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (RUNG.format(3), "rung of 2 epochs"),
        (OUTLOOK.format(41.2), "even at the best rate seen it would end at …"),
        ("no gain for a while", "no gain for a while"),
        ("4 epochs without a gain", "4 epochs without a gain"),
    ],
)
def test_reasons_of_one_kind_differ_after_a_colon_or_in_numbers(reason, kind):
    assert reason_kind(reason) == kind


def test_reasons_are_counted_by_kind_the_most_frequent_first(tmp_path):
    reasons = [OUTLOOK.format(41.2), RUNG.format(3), RUNG.format(4), None]
    found = stop_reasons(stopped_run(tmp_path / "run", reasons))
    assert [(one.kind, one.num_trials, one.trial) for one in found] == [
        ("rung of 2 epochs", 2, 1),
        ("even at the best rate seen it would end at …", 1, 0),
    ]
    assert [one.reason for one in found] == [RUNG.format(3), OUTLOOK.format(41.2)]


@pytest.mark.parametrize("reasons", [[], [None, None]], ids=["no trial", "no reason"])
def test_a_run_without_reasons_has_none(tmp_path, reasons):
    assert stop_reasons(stopped_run(tmp_path / "run", reasons)) == []


def test_a_run_of_before_reasons_has_none(tmp_path):
    run = stopped_run(tmp_path / "run", [RUNG.format(3)])
    assert stop_reasons(replace(run, trials=run.trials.drop(columns="stop_reason"))) == []
