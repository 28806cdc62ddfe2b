import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from analysis_runs import four_trials, trial_row, write_run

from analysis.plots.calibration import describe_calibration, draw_calibration_html
from analysis.results.calibration import Calibration, calibration
from analysis.results.report_data import find
from analysis.results.status import run_status
from analysis.runs import EXPECTED_COLUMNS, read_run


def expected(low: float, median: float, high: float) -> dict[str, float]:
    return dict(zip(EXPECTED_COLUMNS, (low, median, high, 0.02, 30.0), strict=True))


def some_trials() -> list[dict[str, Any]]:
    return [
        trial_row(0, 0.60, 0.05, **expected(0.5, 0.55, 0.6)),
        trial_row(1, 0.90, 0.10, **expected(0.5, 0.6, 0.8)),
        trial_row(2, 0.30, 0.20, **expected(0.4, 0.6, 0.8)),
        trial_row(3, np.nan, 0.30, state="PRUNED", epochs_trained=2, **expected(0.1, 0.2, 0.3)),
        trial_row(4, 0.60, 0.05),  # took over a result
    ]


def made_up(number: int, num_within: int) -> Calibration:
    found = np.where(np.arange(number) < num_within, 0.5, 0.9)
    low, median, high = (np.full(number, value) for value in (0.4, 0.6, 0.8))
    return Calibration(
        trials=np.arange(number), models=("resnet18",) * number, low=low, median=median, high=high,
        found=found,
    )  # fmt: skip


def test_complete_trials_are_compared_with_what_was_expected(tmp_path: Path):
    found = calibration(read_run(write_run(tmp_path / "run", some_trials())))
    assert found is not None
    assert found.trials.tolist() == [0, 1, 2]
    assert found.within.tolist() == [True, False, False]
    assert (found.num_within, found.num_above_median) == (1, 2)
    assert found.in_words() == "1 of 3 trials (33 %) ended within their 80 % interval"


@pytest.mark.parametrize("number", [1, 10, 50, 200])
def test_what_a_calibrated_search_has_is_a_binomial_interval(number: int):
    low, high = made_up(number, 0).likely_within
    chances = [math.comb(number, k) * 0.8**k * 0.2 ** (number - k) for k in range(number + 1)]
    assert sum(chances[:low]) < 0.025 <= sum(chances[: low + 1])
    assert sum(chances[:high]) < 0.975 <= sum(chances[: high + 1])


def test_status_has_what_was_expected_of_each_trial_and_what_came_out(tmp_path: Path):
    status = run_status(read_run(write_run(tmp_path / "run", some_trials())), searched=False)
    assert [row["trial"] for row in status["expectations"]] == [0, 1, 2, 3]
    first, stopped = status["expectations"][0], status["expectations"][3]
    assert first == {
        "trial": 0, "expected_low": 0.5, "expected_accuracy": 0.55, "expected_high": 0.6,
        "expected_gain": 0.02, "expected_seconds": 30.0, "state": "COMPLETE", "epochs_trained": 4,
        "accuracy": 0.6, "last_accuracy": 0.5, "seconds": 12.5,
    }  # fmt: skip
    assert (stopped["state"], stopped["accuracy"], stopped["last_accuracy"]) == (
        *("PRUNED", None, 0.5),
    )
    assert status["calibration"] == {"complete": 3, "within_80_percent": 1, "above_median": 2}


def test_a_run_without_expectations_has_no_calibration(tmp_path: Path):
    path = write_run(tmp_path / "run", four_trials())
    table = pd.read_parquet(path / "trials.parquet").drop(columns=list(EXPECTED_COLUMNS))
    table.to_parquet(path / "trials.parquet")
    run = read_run(path)
    status = run_status(run, searched=False)
    assert (status["expectations"], status["calibration"]) == ([], None)
    assert draw_calibration_html(find(run)) == {}


def test_the_page_says_how_many_ended_within_and_whether_that_is_too_few(tmp_path: Path):
    data = find(read_run(write_run(tmp_path / "run", some_trials())))
    text = describe_calibration(data)
    assert "1 of 3 trials (33 %) ended within their 80 % interval" in text
    assert "here 1 to 3 trials" in text
    assert "stopped or paused" in text
    figure = draw_calibration_html(data)["calibration"]
    assert [trace["name"] for trace in figure.to_dict()["data"]] == [
        *("expected: 80 % interval and median", "ended within (1)", "ended outside (2)"),
    ]
    for num_within, words in ((40, "too narrow"), (60, "median."), (80, "wider than")):
        object.__setattr__(data, "calibration", made_up(80, num_within))
        assert words in describe_calibration(data)
