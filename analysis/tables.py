"""The front as a table that a person reads, and as records that a program reads."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from analysis.choose import choose
from analysis.columns import (
    ACCURACY,
    NUMBERS,
    heading,
    plain_row,
    write_number,
    write_percent,
    write_setting,
)
from analysis.runs import Run
from spaces.recipe import RECIPE_FIELDS

# Beside the run's objectives, in this order; a cost that is an objective is not shown twice.
_MORE_NUMBERS = ("gflops", "params", "size_mb", "latency_ms")

_SAID = {"FAIL": "failed"}


def front_table(run: Run, width: int = 118) -> Table:
    """A row for each trial of the front, from the cheapest on; at most `width` columns wide.

    Of the recipe it shows the model and the fields that differ along the front, as far as they
    fit; the caption names the rest. Raises UserError where no trial is finished.
    """
    records = front_records(run)
    knee = choose(run, "knee").trial
    varying = [name for name in RECIPE_FIELDS if len({record[name] for record in records}) > 1]
    # What names a model comes first, what else it was trained with fills the room that is left.
    first = [name for name in ("model", "input_size") if name == "model" or name in varying]
    columns = (
        {"trial": []}
        | _setting_columns(first, records)
        | _number_columns(run, records)
        | _setting_columns([name for name in varying if name not in first], records)
    )
    columns["trial"] = [f"{r['trial']}{'*' if r['trial'] == knee else ''}" for r in records]
    widths = {name: max(map(len, [*name.split(), *cells])) for name, cells in columns.items()}
    shown = _fitting(widths, width)
    left_out = [name for name in columns if name not in shown]
    caption = "* the knee; efficiency: accuracy in % a GFLOP"
    if left_out:
        caption += f"; no room for {', '.join(left_out)}"
    table = Table(title=_title(run), caption=caption, title_style="bold", box=SIMPLE_HEAD)
    for name in shown:
        is_text = not any(character.isdigit() for character in columns[name][0])
        justify = "left" if is_text or name == "model" else "right"
        table.add_column(name, justify=justify, width=widths[name])
    for cells in zip(*(columns[name] for name in shown), strict=True):
        table.add_row(*cells)
    return table


def front_records(run: Run) -> list[dict[str, Any]]:
    """The front's trials from the cheapest on, as plain values that JSON can hold.

    Each has trial, every recipe field, accuracy (0 to 1), every cost, efficiency (accuracy in % a
    GFLOP), epochs_trained, seconds and checkpoint; None where there is no number.
    Raises UserError where no trial is finished.
    """
    records = []
    for _, row in run.front().iterrows():
        cells = plain_row(row)
        record = {name: cells[name] for name in ("trial", *RECIPE_FIELDS, *NUMBERS)}
        record["params"] = None if cells["params"] is None else int(cells["params"])
        record["efficiency"] = _efficiency(cells)
        record |= {name: cells[name] for name in ("epochs_trained", "seconds", "checkpoint")}
        records.append(record)
    return records


def _efficiency(cells: dict[str, Any]) -> float | None:
    if cells[ACCURACY] is None or not cells["gflops"]:
        return None
    return 100 * cells[ACCURACY] / cells["gflops"]


def _write_efficiency(record: dict[str, Any]) -> str:
    efficiency = record["efficiency"]
    # 1,200 is easier to hold against 95 than 1.20k.
    return f"{efficiency:,.0f}" if efficiency and efficiency >= 100 else write_number(efficiency)


def _number_columns(run: Run, records: list[dict[str, Any]]) -> dict[str, list[str]]:
    columns = {heading(ACCURACY): [write_percent(record[ACCURACY]) for record in records]}
    names = [*run.costs, *(name for name in _MORE_NUMBERS if name not in run.costs)]
    if all(record["gflops"] == record["effective_gflops"] for record in records):
        # Without quantised layers the two are one number.
        names = [name for name in names if name != "gflops" or "effective_gflops" not in run.costs]
    for name in names:
        if any(record[name] is not None for record in records):
            columns[heading(name)] = [write_number(record[name]) for record in records]
        if name == run.costs[-1]:
            columns["efficiency"] = [_write_efficiency(record) for record in records]
    columns["epochs trained"] = [str(record["epochs_trained"]) for record in records]
    return columns


def _setting_columns(names: list[str], records: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {
        heading(name): [write_setting(name, record[name]) for record in records] for name in names
    }


def _fitting(widths: dict[str, int], width: int) -> list[str]:
    """Columns from the first on that fit beside each other; headings may break at spaces."""
    shown: list[str] = []
    used = 1  # the edges of SIMPLE_HEAD, which are spaces, as is what lies between its columns
    for name, needed in widths.items():
        used += needed + 3
        if used > width:
            break
        shown.append(name)
    return shown


def _title(run: Run) -> str:
    counts = run.counts()
    states = ", ".join(
        f"{number} {_SAID.get(state, state.lower())}" for state, number in counts.items() if number
    )
    return f"Front of {run.name}: {len(run.front())} of {len(run.trials)} trials ({states})"
