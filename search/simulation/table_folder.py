"""Reads a table that anyone can write: recipes of any search, trained to their end.

A folder holds three files.
- table.yaml: name, source, objectives, epochs, and dimensions, each as in a space file.
- trials.parquet: trial, a column for each dimension, and costs. A missing value means that the
  dimension is absent in that trial.
- epochs.parquet: trial, epoch (from 1), seconds, and accuracy or another metric that the objectives
  name (0 to 1). Other columns of a run's epochs.parquet may be there too.
"""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from analysis.columns import plain
from analysis.runs import EPOCH_COLUMNS, EPOCHS, TRIALS, read_parquet
from search.simulation.table_recipe import table_recipe
from search.simulation.tabular_benchmark import FEWEST_RECIPES, BenchmarkTrial, TabularBenchmark
from spaces.columns import COSTS, METRICS, FloatArray
from spaces.dimensions import Choice, Dimension, Fixed, IntRange, Value, parse_dimension, same_value
from spaces.errors import UserError
from spaces.objectives import Objectives, read_objectives
from spaces.recipe import describe_mistakes
from spaces.space import Rule, SearchSpace
from spaces.yaml_files import did_you_mean, read_yaml_mapping, shorten
from trainables.costing.figures import Cost
from trainables.learning.metrics import EpochMetrics

TABLE = "table.yaml"
# Columns and keys with a meaning of their own.
_RESERVED = ("trial", "epochs", "seed", *METRICS, *COSTS)
_KEYS = ("name", "source", "objectives", "epochs", "dimensions")
# Columns in single precision miss the ends of a range by this much.
_ROUNDING = 1e-6

_Cells = list[Value]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class _Written:
    """table.yaml as it is written."""

    name: Annotated[str, Field(min_length=1)]
    source: str | None = None
    """Where the table comes from, in words."""
    objectives: Annotated[dict[str, Any], Field(min_length=1)]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    dimensions: Annotated[dict[str, Any], Field(min_length=1)]


class _Header(NamedTuple):
    """table.yaml, read."""

    written: _Written
    objectives: Objectives
    dimensions: dict[str, Dimension]


def read_table(folder: Path) -> TabularBenchmark:
    """Read the table of a folder. Of trials with equal values, the first one counts.

    Raises UserError that names the file, if one is damaged, or does not fit the others.
    """
    header = _read_header(folder / TABLE)
    path, num_epochs = folder / TRIALS, header.written.epochs
    rows = _read_trials(path, header)
    cells = {name: _read_cells(path, rows, name, one) for name, one in header.dimensions.items()}
    switches = _switches(header.dimensions, cells)
    costs = _read_costs(path, rows, header.objectives)
    curves = _read_curves(
        folder / EPOCHS, set(rows["trial"]), num_epochs, header.objectives.shown_metric
    )
    trials: dict[str, BenchmarkTrial] = {}
    for index, number in enumerate(rows["trial"]):
        values = {name: column[index] for name, column in (switches | cells).items()}
        recipe = table_recipe(values, epochs=num_epochs)
        trial = BenchmarkTrial(recipe=recipe, cost=costs[index], epochs=curves[number])
        trials.setdefault(recipe.key, trial)
    if len(trials) < FEWEST_RECIPES:
        raise UserError(
            f"{path}: has {len(trials)} different recipes; a replay needs at least {FEWEST_RECIPES}"
        )
    return TabularBenchmark(
        name=header.written.name,
        space=SearchSpace(
            name=header.written.name,
            rules=_rules(header.dimensions, cells),
            written=header.written.dimensions,
            base=table_recipe(dict.fromkeys(switches | cells), epochs=num_epochs),
        ),
        objectives=header.objectives,
        trials=tuple(trials.values()),
    )


def _read_header(path: Path) -> _Header:
    try:
        written = _Written(**read_yaml_mapping(path))
        objectives = read_objectives(written.objectives)
    except ValidationError as error:
        lines = describe_mistakes(error, _KEYS)
        raise UserError("\n".join(f"{path}: {line}" for line in lines)) from None
    except UserError as error:
        raise UserError(_in_file(path, error)) from None
    dimensions: dict[str, Dimension] = {}
    for name, line in written.dimensions.items():
        if name in _RESERVED:
            _refuse(path, f"dimensions.{name}: this name has another meaning; rename the column")
        whole = isinstance(line, Mapping) and "int" in line
        try:
            dimensions[name] = parse_dimension(line, whole=whole)
        except ValueError as error:
            _refuse(path, f"dimensions.{name}: {error}")
    return _Header(written=written, objectives=objectives, dimensions=dimensions)


def _read_trials(path: Path, header: _Header) -> pd.DataFrame:
    costs = [name for name in header.objectives if name in COSTS]
    needed = ["trial", *header.dimensions, *costs]
    rows = _read_rows(path, needed, allowed=(*needed, *COSTS))
    twice = [number for number, count in Counter(rows["trial"]).items() if count > 1]
    if twice:
        _refuse(path, f"trial {twice[0]} is there twice; number the trials anew")
    return rows


def _read_rows(path: Path, needed: list[str], *, allowed: tuple[str, ...]) -> pd.DataFrame:
    """A table's rows, whose trials are whole numbers."""
    rows = read_parquet(path, way_out="copy it anew from where the table comes from")
    lost = [name for name in needed if name not in rows]
    if lost:
        found = did_you_mean(lost[0], [str(name) for name in rows if name not in allowed])
        _refuse(path, f"lacks the columns {', '.join(lost)}{found}")
    unknown = [str(name) for name in rows if name not in allowed]
    if unknown:
        _refuse(
            path,
            f"{', '.join(unknown[:3])}: unknown{did_you_mean(unknown[0], allowed)}; a column is"
            f" {', '.join(dict.fromkeys(allowed))}; drop others, or name them in {TABLE}",
        )
    trials = _numbers(path, rows, "trial")
    if (trials % 1 != 0).any():
        _refuse(path, f"trial should hold whole numbers, not {trials[trials % 1 != 0][0]:g}")
    return rows.assign(trial=trials.astype(int))


def _read_cells(path: Path, rows: pd.DataFrame, name: str, dimension: Dimension) -> _Cells:
    """A dimension's values, None where it is absent."""
    cells: _Cells = []
    for number, cell in zip(rows["trial"], rows[name], strict=True):
        value = plain(cell) if np.ndim(cell) == 0 else str(cell)  # a list is no value
        known = None if value is None else _value_in(dimension, value)
        if value is not None and known is None:
            _refuse(
                path,
                f"trial {number}: {name}: {shorten(value)} is not in this dimension of {TABLE};"
                " widen it there, or correct the value",
            )
        cells.append(known)
    return cells


def _value_in(dimension: Dimension, value: Any) -> Value:
    """A cell as the dimension writes it; None if it lies outside.

    A column of whole numbers holds floats where some are missing.
    """
    if isinstance(dimension, Fixed | Choice):
        return next((one for one in dimension.extremes if same_value(one, value)), None)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    value = int(value) if isinstance(dimension, IntRange) and value % 1 == 0 else float(value)
    for end in (dimension.low, dimension.high):
        if math.isclose(value, end, rel_tol=_ROUNDING):
            value = end
    return value if dimension.contains(value) else None


def _switches(
    dimensions: Mapping[str, Dimension], cells: Mapping[str, _Cells]
) -> dict[str, _Cells]:
    """For each range that is absent in some trials: whether it is there. It is drawn first."""
    return {
        _switch(name): [cell is not None for cell in column]
        for name, column in cells.items()
        if None in column and not isinstance(dimensions[name], Choice)
    }


def _switch(name: str) -> str:
    return f"with {name}"


def _rules(dimensions: Mapping[str, Dimension], cells: Mapping[str, _Cells]) -> dict[str, Rule]:
    """The rules to draw a recipe. In a choice, absence is one more value."""
    rules: dict[str, Rule] = {}
    for name, dimension in dimensions.items():
        when: dict[str, tuple[Value, ...]] = {}
        if None in cells[name]:
            if isinstance(dimension, Choice):
                dimension = Choice(values=tuple(dict.fromkeys((*dimension.values, None))))
            else:
                when = {_switch(name): (True,)}
                rules[_switch(name)] = Rule(dimension=Choice(values=(False, True)), when={})
        rules[name] = Rule(dimension=dimension, when=when)
    return rules


def _read_costs(path: Path, rows: pd.DataFrame, objectives: Objectives) -> list[Cost]:
    columns = {
        name: _numbers(path, rows, name, missing=name not in objectives)
        for name in COSTS
        if name in rows
    }
    for name, column in columns.items():
        if (column < 0).any():
            _refuse(path, f"{name} should not be below 0, as {column[column < 0][0]:g} is")
    return [
        Cost(figures={name: cost for name, cost in zip(columns, row, strict=True) if cost == cost})
        for row in zip(*(column.tolist() for column in columns.values()), strict=True)
    ] or [Cost(figures={})] * len(rows)


def _read_curves(
    path: Path, trials: set[int], num_epochs: int, metric: str
) -> dict[int, tuple[EpochMetrics, ...]]:
    """The epochs of each trial. Raises UserError unless all have all of their epochs."""
    needed, allowed = ("epoch", metric, "seconds"), tuple(dict.fromkeys((*EPOCH_COLUMNS, metric)))
    rows = _read_rows(path, ["trial", *needed], allowed=allowed)
    columns = {name: _numbers(path, rows, name) for name in needed}
    reached = columns[metric]
    if reached.size and (reached.min() < 0 or reached.max() > 1):
        wrong = reached[(reached < 0) | (reached > 1)][0]
        _refuse(path, f"{metric} should be from 0 to 1, not {wrong:g}; divide percents by 100")
    if (columns["seconds"] < 0).any():
        _refuse(path, "seconds should not be below 0")
    for name in allowed:
        if name != "trial" and name not in columns:
            columns[name] = (
                _numbers(path, rows, name, missing=True)
                if name in rows
                else np.full(len(rows), np.nan)
            )
    curves: dict[int, list[EpochMetrics]] = {number: [] for number in sorted(trials)}
    table = pd.DataFrame(columns).assign(trial=rows["trial"].to_numpy())
    for row in table.sort_values(["trial", "epoch"]).to_dict("records"):
        number, epoch = int(row.pop("trial")), row.pop("epoch")
        if number not in curves:
            _refuse(path, f"trial {number} is not in {TRIALS}; remove its epochs")
        if epoch != len(curves[number]) + 1 or epoch > num_epochs:
            _refuse(
                path,
                f"trial {number}: epoch {epoch:g} follows epoch {len(curves[number])}; each trial"
                f" needs the epochs 1 to {num_epochs} once, as {TABLE} says",
            )
        curves[number].append(EpochMetrics.from_dict({"epoch": int(epoch), **row}))
    for number, curve in curves.items():
        if len(curve) < num_epochs:
            _refuse(
                path,
                f"trial {number}: has {len(curve)} of the {num_epochs} epochs of {TABLE}, but a"
                " replay needs full curves; leave the trial out of both tables, or write fewer"
                " epochs",
            )
    return {number: tuple(curve) for number, curve in curves.items()}


def _numbers(path: Path, rows: pd.DataFrame, name: str, *, missing: bool = False) -> FloatArray:
    """(rows,): a column of finite numbers. missing: NaN is let through."""
    column = rows[name]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        if missing and bool(column.isna().all()):
            return np.full(len(rows), np.nan)
        _refuse(path, f"{name} should hold numbers, not {shorten(plain(next(iter(column), None)))}")
    numbers = column.to_numpy(dtype=float, na_value=np.nan)
    wrong = np.isinf(numbers) if missing else ~np.isfinite(numbers)
    if wrong.any():
        _refuse(path, f"{name} should hold finite numbers, not {numbers[wrong][0]:g}")
    return numbers


def _refuse(path: Path, reason: str) -> NoReturn:
    raise UserError(f"{path}: {reason}")


def _in_file(path: Path, error: UserError) -> str:
    """An error's text, with the file's name where it lacks it."""
    return str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
