import json

import pytest
from analysis_runs import four_trials, many_trials, trial_row, write_run
from made_up_reports import confirmed, full_report_data, timed_run
from rich.console import Console

from analysis.choose import choose
from analysis.report.html_report import write_report
from analysis.results.confirmation import accuracies_on_test_split
from analysis.results.front_table import front_records, front_table
from analysis.results.status import write_best
from analysis.runs import read_run
from spaces.intervals import wilson_interval
from spaces.recipe import RECIPE_FIELDS


@pytest.fixture
def run(tmp_path):
    return read_run(write_run(tmp_path / "animals", four_trials()))


def printed(table, width=120):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_records_are_plain_values_from_the_cheapest_on(run):
    records = front_records(run)
    assert [record["trial"] for record in records] == [0, 1, 2]
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    first = records[0]
    assert set(RECIPE_FIELDS) <= set(first)
    assert (first["accuracy"], first["gflops"], first["params"]) == (0.6, 0.05, 857239)
    assert first["latency_ms"] is None
    assert first["unfrozen"] is None
    assert records[1]["unfrozen"] == 2


def test_efficiency_is_accuracy_in_percent_a_gflop(run):
    assert [round(record["efficiency"]) for record in front_records(run)] == [1200, 900, 95]


def test_the_efficiency_of_a_model_without_flops_is_left_out(tmp_path):
    run = read_run(write_run(tmp_path / "run", [trial_row(0, 0.5, 0.0)]))
    assert front_records(run)[0]["efficiency"] is None
    assert "–" in printed(front_table(run))


def test_the_table_shows_the_front_and_marks_its_knee(run):
    text = printed(front_table(run))
    assert "3 of 7 trials (4 complete, 1 stopped early, 1 failed, 1 unfinished)" in text
    assert "1*" in text
    for words in ("mobilenet_v2", "90.0", "0.0500", "857k", "44.7", "1,200"):
        assert words in text


def test_the_table_shows_of_the_recipe_what_differs_and_the_rest_once(run):
    text = " ".join(printed(front_table(run)).split())
    assert "mobilenet_v2, 112 px, unfrozen 2" in text
    assert text.count("rate 0.001") == 1
    assert "momentum" not in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_fits_every_terminal_without_losing_a_recipe(tmp_path, width):
    run = read_run(write_run(tmp_path / "run", many_trials(60)))
    text = printed(front_table(run), width=width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text
    first_words = [line.split()[0].strip("*") for line in text.splitlines() if line.strip()]
    for record in front_records(run):
        assert str(record["trial"]) in first_words


def test_gflops_are_shown_beside_effective_gflops_only_where_they_differ(tmp_path, run):
    assert "effective" in printed(front_table(run))
    headings = [str(column.header) for column in front_table(run).columns]
    assert "GFLOPs" not in headings
    rows = [trial_row(0, 0.9, 0.4, effective_gflops=0.025), trial_row(1, 0.95, 0.4)]
    quantised = read_run(write_run(tmp_path / "quantised", rows))
    headings = [str(column.header) for column in front_table(quantised).columns]
    assert {"GFLOPs", "effective GFLOPs"} <= set(headings)


def test_every_objective_is_in_the_table(tmp_path):
    objectives = {"accuracy": "max", "latency_ms": "min", "gbops": "min"}
    run = read_run(
        write_run(tmp_path / "run", [trial_row(0, 0.5, 1.0, latency_ms=3.0)], objectives)
    )
    headings = [str(column.header) for column in front_table(run).columns]
    assert {"latency (ms)", "GBOPs", "GFLOPs"} <= set(headings)


def test_trials_with_the_same_numbers_are_one_row_that_counts_them(tmp_path):
    rows = [trial_row(n, 0.5, 0.1, learning_rate=0.001 * (n + 1)) for n in range(4)]
    run = read_run(write_run(tmp_path / "run", rows))
    text = " ".join(printed(front_table(run)).split())
    assert "(and 3 more with these numbers)" in text
    assert "all with baseline_cnn, 112 px, batch 32, adam, 10 epochs" in text
    assert len(front_records(run)) == 4


@pytest.mark.parametrize("width", [80, 100, 120])
def test_accuracies_have_intervals_and_what_confirm_found_stands_beside_them(tmp_path, width):
    run = timed_run(tmp_path)
    confirmation = confirmed(run)
    tested = accuracies_on_test_split(confirmation)
    text = printed(front_table(run, width=width, tested=tested), width=width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    for accuracy in confirmation.accuracies:
        assert accuracy.write_percent() in text
    alone = printed(front_table(run, width=width), width=width)
    for record in front_records(run, tested):
        expected = wilson_interval(record["accuracy"], 450)
        assert record["accuracy_interval"] == {"low": expected.low, "high": expected.high}
        assert record["test_accuracy"] == tested[record["trial"]].to_dict()
        assert expected.write_ends() in alone
    assert json.loads(json.dumps(front_records(run, tested))) == front_records(run, tested)
    best = run.interval(float(run.finished["accuracy"].to_numpy().max()))
    assert best is not None
    assert best.write_ends() in write_best(run)


def test_the_page_has_them_too(tmp_path):
    run = timed_run(tmp_path)
    data = full_report_data(run)
    page = write_report(data, tmp_path / "page.html", chosen=choose(run, "knee")).read_text()
    table = page[page.index('<table class="front cards">') :]
    table = table[: table.index("</table>")]
    assert "<th>95 % interval</th><th>test (95 % interval)</th>" in table
    assert data.confirmation is not None
    for accuracy in data.confirmation.accuracies:
        assert f">{accuracy.write_percent()}</td>" in table
