"""What trials took and cost: by hand, in closed form."""

import pandas as pd
import pytest
from analysis_runs import four_trials, trial_row, write_run

from analysis.results.front_table import front_records
from analysis.results.spending import (
    run_spending,
    spending_notes,
    spending_record,
    write_hours,
    write_money,
)
from analysis.results.status import run_status
from analysis.runs import read_run
from spaces.errors import UserError
from spaces.yaml_files import read_yaml_mapping, write_yaml

A10G, T4 = "10.0.0.5 (NVIDIA A10G)", "10.0.0.6 (Tesla T4)"
XEON = "10.0.0.7 (Intel(R) Xeon(R) CPU @ 2.20GHz)"
HOUR = {"seconds": 3600.0}


def spent(folder, rows, per_hour=None, **study):
    path = write_run(folder / "run", rows)
    if per_hour is not None:
        study["prices"] = {"currency": "USD", "per_hour": per_hour}
    content = {**read_yaml_mapping(path / "study.yaml"), **study}
    (path / "study.yaml").write_text(write_yaml(content), encoding="utf-8")
    return run_spending(read_run(path))


def test_a_share_of_a_gpu_costs_that_share_of_its_price(tmp_path):
    rows = [
        trial_row(0, 0.6, 0.1, ran_on=A10G, cpus=4, gpus=0.25, **HOUR),
        trial_row(1, 0.7, 0.2, ran_on=T4, cpus=4, gpus=2.0, **HOUR),
        trial_row(2, 0.8, 0.3, ran_on=XEON, cpus=4, gpus=0.0, **HOUR),
    ]
    prices = {"NVIDIA A10G": 0.6, "Tesla T4": 0.2, "Intel(R) Xeon(R) CPU @ 2.20GHz": 0.05}
    spending = spent(tmp_path, rows, prices)
    assert [trial.hours for trial in spending.trials] == [0.25, 2.0, 4.0]
    assert [trial.money for trial in spending.trials] == pytest.approx([0.15, 0.4, 0.2])
    assert write_hours(spending) == "2.25 GPU-hours, 4.00 core-hours"
    assert write_money(spending) == "0.750 USD, 0.250 per trial"
    assert spending_notes(spending) == []


def test_gpu_and_cpu_are_the_prices_of_what_has_none_by_name(tmp_path):
    rows = [
        trial_row(0, 0.6, 0.1, ran_on=T4, gpus=1.0, **HOUR),
        trial_row(1, 0.7, 0.2, ran_on=A10G, gpus=1.0, **HOUR),
        trial_row(2, 0.8, 0.3, ran_on=XEON, cpus=2, gpus=0.0, **HOUR),
        trial_row(3, 0.9, 0.4, ran_on=None, cpus=2, gpus=0.0, **HOUR),
    ]
    spending = spent(tmp_path, rows, {"NVIDIA A10G": 0.6, "gpu": 0.3, "cpu": 0.05})
    assert [trial.money for trial in spending.trials] == pytest.approx([0.3, 0.6, 0.1, 0.1])


def test_what_has_no_price_is_named_and_counts_in_no_sum(tmp_path):
    rows = [
        trial_row(0, 0.6, 0.1, ran_on=A10G, gpus=0.5, **HOUR),
        trial_row(1, 0.7, 0.2, ran_on=T4, gpus=0.5, **HOUR),
        trial_row(2, 0.8, 0.3, ran_on=f"{A10G}, then {T4}", gpus=1.0, **HOUR),
    ]
    spending = spent(tmp_path, rows, {"NVIDIA A10G": 0.6, "cpu": 0.05})
    assert write_money(spending) == "0.300 USD, 0.300 per trial"
    assert spending_notes(spending) == [
        "no price for Tesla T4: 1.50 GPU-hours are not in the cost; add it to prices.per_hour"
    ]
    assert spending_record(spending) == {
        "gpu_hours": 2.0,
        "core_hours": 0.0,
        "money": {
            "currency": "USD",
            "amount": 0.3,
            "trials": 1,
            "unpriced": [{"ran_on": "Tesla T4", "gpu_hours": 1.5}],
            "at_dearest_price": [],
        },
    }


def test_a_trial_that_moved_to_another_kind_is_counted_at_the_dearest_and_named(tmp_path):
    rows = [
        trial_row(0, 0.6, 0.1, ran_on=f"{T4}, then {A10G}", gpus=1.0, **HOUR),
        trial_row(1, 0.7, 0.2, ran_on=f"{T4}, then 10.0.0.9 (Tesla T4)", gpus=1.0, **HOUR),
    ]
    spending = spent(tmp_path, rows, {"NVIDIA A10G": 0.6, "Tesla T4": 0.2})
    assert [trial.money for trial in spending.trials] == pytest.approx([0.6, 0.2])
    assert spending_notes(spending) == [
        "moved between devices, counted at the highest price: trial 0",
    ]


def test_runs_of_before_take_their_resources_from_the_study_and_have_no_prices(tmp_path):
    path = write_run(tmp_path / "run", four_trials())
    table = pd.read_parquet(path / "trials.parquet").drop(columns=["cpus", "gpus", "ran_on"])
    table.to_parquet(path / "trials.parquet")
    run = read_run(path)
    hours = table["seconds"].sum() / 3600
    assert run_status(run, searched=False)["core_hours"] == pytest.approx(hours)
    assert run_status(run, searched=False)["money"] is None
    study = read_yaml_mapping(path / "study.yaml") | {"resources": {"cpus": 4, "gpus": 0.5}}
    (path / "study.yaml").write_text(write_yaml(study), encoding="utf-8")
    status = run_status(read_run(path), searched=False)
    assert (status["gpu_hours"], status["core_hours"]) == (pytest.approx(hours / 2), 0.0)


def test_trials_of_the_front_have_their_own_cost(tmp_path):
    rows = [trial_row(0, 0.6, 0.1, ran_on=XEON, cpus=2, gpus=0.0, **HOUR)]
    spent(tmp_path, rows, {"cpu": 0.05})
    [record] = front_records(read_run(tmp_path / "run"))
    assert (record["gpu_hours"], record["core_hours"], record["money"]) == (0.0, 2.0, 0.1)


def test_a_price_that_is_none_is_told_with_its_place(tmp_path):
    message = pytest.raises(UserError, match=r"study\.yaml: prices\.per_hour\.cpu: -1 should be")
    with message:
        spent(tmp_path, four_trials(), {"cpu": -1})


def test_a_run_in_which_nothing_trained_cost_nothing(tmp_path):
    spending = spent(tmp_path, [trial_row(0, 0.6, 0.1, seconds=0.0)], {"cpu": 0.05})
    assert (write_hours(spending), write_money(spending)) == ("", "")
