"""The front as a table that a person reads, and as records that a program reads."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from analysis.choose import Selection, choose
from analysis.columns import (
    describe_recipe,
    heading,
    in_a_sentence,
    plain_row,
    write_number,
    write_percent,
    write_setting,
)
from analysis.results.guessing import describe_guess
from analysis.results.spending import run_spending
from analysis.runs import Run
from spaces.columns import ACCURACY
from spaces.intervals import Interval
from spaces.recipe import RECIPE_FIELDS

# Shown after the run's objectives, in this order, unless they are objectives.
_MORE_NUMBERS = ("gflops", "params", "size_mb", "latency_ms")

# In this width, a recipe takes few lines.
_RECIPE_WIDTH = 36


TEST = "test (95 % interval)"
_INTERVAL = "95 % interval"


def front_table(run: Run, width: int = 120, tested: Mapping[int, Interval] | None = None) -> Table:
    """A row for each trial of the front, the cheapest first, with its recipe.

    Of a recipe it shows the model and the fields that differ along the front; the caption has what
    all recipes share. Numbers that are not objectives are left out where they don't fit into width
    characters. tested: by trial, accuracies on the test split. Raises UserError where no trial is
    feasible.
    """
    everything = front_records(run, tested)
    records, alike = _points(everything, list(run.objectives))
    knee = choose(run, "knee").trial
    differing = [name for name in RECIPE_FIELDS if len({r[name] for r in everything}) > 1]
    shared = [name for name in RECIPE_FIELDS if name not in differing]
    recipes = [describe_recipe(record, ["model", *differing]) for record in records]
    table = Table(title=_title(run), title_style="bold", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("trial", justify="right", no_wrap=True)
    numbers = front_columns(run, records)
    # Headings break at spaces.
    widths = {name: max(map(len, [*name.split(), *numbers[name]])) for name in numbers}
    must = {heading(name) for name in (run.metric, *run.costs)}
    must.add(TEST if TEST in widths else _INTERVAL)
    while sum(widths.values()) + 3 * len(widths) > width - _RECIPE_WIDTH - 10:
        spare = [name for name in widths if name not in must]
        if not spare:
            break
        del widths[spare[-1]], numbers[spare[-1]]
    for name, needed in widths.items():
        table.add_column(Text(name), justify="right", width=needed)
    table.add_column("recipe", overflow="fold")
    notes = ["* the knee"]
    if "efficiency" in widths:
        notes.append("efficiency: % per GFLOP")
    metric, num_images = in_a_sentence(run.metric), run.num_measured_images
    if num_images:
        notes.append(
            f"{metric}: of {num_images:,} validation images, and the interval over other images"
        )
    guess = describe_guess(run)
    if guess:
        notes.append(guess)
    if TEST in widths:
        notes.append("test: of models trained again, on images that no choice used")
    broken = run.broken_constraints()
    if broken:
        notes.append(broken)
    common = _common(records[0], shared)
    note = "; ".join([*notes, f"all with {common}"] if common else notes)
    table.caption = Text(note, style="table.caption")
    table.caption_justify = "left"
    for row, record in enumerate(records):
        mark = "*" if record["trial"] == knee else ""
        cells = [column[row] for column in numbers.values()]
        more = f" (and {alike[row]} more with these numbers)" if alike[row] else ""
        table.add_row(f"{record['trial']}{mark}", *cells, recipes[row] + more)
    return table


def recipe_table(chosen: Selection) -> Table:
    """The recipe of a chosen trial: a row for each field, as a person writes it."""
    table = Table(title=chosen.reason, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("field")
    table.add_column("value", overflow="fold")
    for field, value in recipe_settings(chosen).items():
        table.add_row(field, value)
    return table


def recipe_settings(chosen: Selection) -> dict[str, str]:
    """Every field of a chosen trial's recipe in words, by its name in words."""
    return {
        field.replace("_", " "): write_setting(field, chosen.row[field]) for field in RECIPE_FIELDS
    }


def front_records(run: Run, tested: Mapping[int, Interval] | None = None) -> list[dict[str, Any]]:
    """The front's trials as plain values for JSON, the cheapest first.

    tested: by trial, accuracies on the test split.
    Each has trial, every recipe field, every metric (0 to 1); of the run's metric, such as
    accuracy: accuracy_interval (low and high), test_accuracy (mean, low and high); every cost,
    efficiency (% of the metric per GFLOP), epochs_trained, seconds, gpu_hours, core_hours, money
    (at the study's prices) and checkpoint; None where there is no number.
    Raises UserError where no trial is finished.
    """
    spent = {trial.trial: trial for trial in run_spending(run).trials}
    records = []
    for _, row in run.front().iterrows():
        cells = plain_row(row)
        record = {
            name: cells[name] for name in ("trial", *RECIPE_FIELDS, *run.objectives.known_numbers)
        }
        record["params"] = None if cells["params"] is None else int(cells["params"])
        interval = run.interval(cells[run.metric])
        record[f"{run.metric}_interval"] = interval and {
            "low": interval.low,
            "high": interval.high,
        }
        test = (tested or {}).get(cells["trial"])
        record[_test_of(run)] = test and test.to_dict()
        record["efficiency"] = _efficiency(cells, run.metric)
        record |= {name: cells[name] for name in ("epochs_trained", "seconds")}
        took = spent.get(cells["trial"])
        record["gpu_hours"] = took.hours_of("gpu") if took else 0.0
        record["core_hours"] = took.hours_of("cpu") if took else 0.0
        record["money"] = took.money if took else None
        record["checkpoint"] = cells["checkpoint"]
        records.append(record)
    return records


def _points(
    everything: list[dict[str, Any]], objectives: list[str]
) -> tuple[list[dict[str, Any]], list[int]]:
    """The front's first trial at each point, and how many others have the same objectives.

    With few validation images many recipes tie; a row for each would bury the others.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in everything:
        groups.setdefault(tuple(record[name] for name in objectives), []).append(record)
    firsts = [records[0] for records in groups.values()]
    return firsts, [len(records) - 1 for records in groups.values()]


def _efficiency(cells: dict[str, Any], metric: str) -> float | None:
    if cells[metric] is None or not cells["gflops"]:
        return None
    return 100 * cells[metric] / cells["gflops"]


def _test_of(run: Run) -> str:
    return f"test_{run.metric}"


def _write_efficiency(record: dict[str, Any]) -> str:
    efficiency = record["efficiency"]
    # 1,200 is easier to compare with 95 than 1.20k.
    return f"{efficiency:,.0f}" if efficiency and efficiency >= 100 else write_number(efficiency)


def front_columns(run: Run, records: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Cells by heading: the metric, bounded ones, costs, efficiency, then _MORE_NUMBERS."""
    metric = run.metric
    columns = {heading(metric): [write_percent(record[metric]) for record in records]}
    intervals = [run.interval(record[metric]) for record in records]
    if any(intervals):
        columns[_INTERVAL] = [interval.write_ends() if interval else "–" for interval in intervals]
    tests = [record[_test_of(run)] for record in records]
    if any(tests):
        columns[TEST] = [Interval(**test).write_percent() if test else "–" for test in tests]
    # What else the study names, and plain accuracy beside another metric.
    bounded = [bound.column for bound in run.objectives.metric_constraints]
    for name in dict.fromkeys((*bounded, ACCURACY)):
        if name != metric:
            columns[heading(name)] = [write_percent(record[name]) for record in records]
    names = [*run.costs, *(name for name in _MORE_NUMBERS if name not in run.costs)]
    if all(record["gflops"] == record["effective_gflops"] for record in records):
        # Without quantised layers the two are one number.
        names = [name for name in names if name != "gflops" or "effective_gflops" not in run.costs]
    for name in names:
        if any(record[name] is not None for record in records):
            columns[heading(name)] = [write_number(record[name]) for record in records]
        if name == run.costs[-1]:
            columns["efficiency"] = [_write_efficiency(record) for record in records]
    return columns


def _common(record: dict[str, Any], shared: list[str]) -> str:
    """What all recipes of the front share, the model included only if they do."""
    described = describe_recipe(record, shared)
    return described if "model" in shared else described.partition(", ")[2]


def _title(run: Run) -> str:
    front, trials = len(run.front()), len(run.trials)
    return f"Front of {run.name}: {front} of {trials} trials ({run.counts_in_words()})"
