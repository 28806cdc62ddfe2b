from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from analysis_runs import trial_row, write_run

from analysis.plots.importances import draw_importances_html
from analysis.results.importances import FEWEST_TRIALS, by_importance, parameter_importances
from analysis.results.report_data import find
from analysis.runs import Run, read_run

SPACE: dict[str, Any] = {
    "model": ["baseline_cnn", "mobilenet_v2"],
    "batch_norm": {"choices": [False, True], "when": {"model": "baseline_cnn"}},
    "input_size": [48, 96],
    "learning_rate": {"log": [1.0e-4, 1.0e-1]},
}


def run_of(folder: Path, rows: list[dict[str, Any]], space: Any = SPACE) -> Run:
    path = write_run(folder / "run", rows)
    study = yaml.safe_load((path / "study.yaml").read_text())
    (path / "study.yaml").write_text(yaml.safe_dump({**study, "space": space}))
    return read_run(path)


def drawn(count: int) -> list[dict[str, Any]]:
    """Accuracy hangs on the learning rate, cost on the input size."""
    rng = np.random.default_rng(0)
    rows = []
    for trial in range(count):
        model = SPACE["model"][rng.integers(2)]
        size = SPACE["input_size"][rng.integers(2)]
        rate = float(10 ** rng.uniform(-4, -1))
        rows.append(
            trial_row(
                trial,
                0.9 - 0.2 * abs(np.log10(rate) + 2),
                size**2 / 1e5,
                model=model,
                batch_norm=bool(model == "baseline_cnn" and rng.integers(2)),
                input_size=size,
                learning_rate=rate,
            )
        )
    return rows


def test_what_decides_an_objective_comes_first(tmp_path: Path):
    importances = parameter_importances(run_of(tmp_path, drawn(120)))
    accuracy, cost = importances["accuracy"], importances["effective_gflops"]
    assert next(iter(accuracy)) == "learning_rate"
    assert accuracy["learning_rate"] > 0.7
    assert next(iter(cost)) == "input_size"
    assert sum(accuracy.values()) == pytest.approx(1)
    assert set(accuracy) == {"model", "batch_norm", "input_size", "learning_rate"}
    assert set(by_importance(importances)[:2]) == {"learning_rate", "input_size"}


def test_few_trials_tell_nothing(tmp_path: Path):
    assert parameter_importances(run_of(tmp_path, drawn(FEWEST_TRIALS - 1))) == {}


def test_a_run_that_names_no_space_tells_nothing(tmp_path: Path):
    assert parameter_importances(read_run(write_run(tmp_path / "run", drawn(20)))) == {}


def test_nothing_matters_to_an_objective_that_is_the_same_everywhere(tmp_path: Path):
    rows = [{**row, "effective_gflops": 0.1} for row in drawn(20)]
    importances = parameter_importances(run_of(tmp_path, rows))
    assert importances["effective_gflops"] == {}
    assert importances["accuracy"]


def test_trials_stopped_early_count_without_a_warning(tmp_path: Path):
    rows = drawn(40)
    for row in rows:  # all but eight were stopped, at the accuracy that their last epoch tells
        if row["trial"] % 5:
            row["state"] = "PRUNED"
    rows[0]["width"], space = 0.5, SPACE | {"width": [0.5, 1.0]}
    importances = parameter_importances(run_of(tmp_path, rows, space))
    assert next(iter(importances["effective_gflops"])) == "input_size"


def test_a_field_that_cannot_change_a_cost_has_no_share_in_it_and_no_bar(tmp_path: Path):
    """The cheapest tenth has its rates from a narrow range, which is no reason for its costs."""
    rows = drawn(120)
    for row in rows:
        if row["input_size"] == 48 and row["model"] == "mobilenet_v2":
            row["learning_rate"] = 3e-3
    rows = [row | {"params": 1e6 if row["model"] == "mobilenet_v2" else 1e5} for row in rows]
    path = run_of(tmp_path, rows).path
    study = yaml.safe_load((path / "study.yaml").read_text())
    study["objectives"] = {"accuracy": "max", "effective_gflops": "min", "params": "min"}
    (path / "study.yaml").write_text(yaml.safe_dump(study))
    importances = parameter_importances(read_run(path))
    # Of the fields that can change the number of parameters, only the model does so in this run.
    for cost, decisive in (("effective_gflops", {"input_size"}), ("params", {"model"})):
        assert {field for field, share in importances[cost].items() if share} == decisive
        assert set(importances[cost]) == set(SPACE)
        assert sum(importances[cost].values()) == pytest.approx(1)
    figure = draw_importances_html(find(read_run(path)))["importances"].to_dict()
    drawn_fields = [set(bars["y"]) for bars in figure["data"]]
    assert drawn_fields[1:] == [{"input size"}, {"model"}]


def test_the_shipped_run_credits_its_costs_to_what_decides_them():
    example = Path(__file__).parents[1] / "analysis" / "example"
    cost = parameter_importances(read_run(example))["effective_gflops"]
    assert {field for field, share in cost.items() if share} == {
        *("model", "input_size", "width", "qat")
    }
