"""Parallel coordinates: where each trial crosses the axes of settings, costs and accuracy."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.columns import heading, plain, write_number, write_percent, write_setting
from analysis.pareto.front import FloatArray
from analysis.plot_style import spans_magnitudes
from analysis.runs import Run
from spaces.columns import is_metric
from spaces.recipe import RECIPE_FIELDS

# A setting with more different numbers than this gets a numeric axis.
_MOST_WORDS = 6
_NUM_TICKS = 5
# A longer label would reach the next axis.
_MOST_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One axis."""

    column: str
    title: str
    positions: FloatArray
    """(trials,), where each trial crosses it; log10 of numbers that span magnitudes."""
    ends: tuple[float, float]
    tick_positions: list[float]
    tick_labels: list[str]


def parallel_scales(run: Run) -> list[Scale]:
    """The axes of a run's finished trials: recipe fields that differ, the costs, the metric last.

    The seed is left out. Raises UserError where no trial is finished.
    """
    finished = run.require_finished()
    fields = [name for name in RECIPE_FIELDS if name != "seed"]
    fields = [name for name in fields if len({plain(value) for value in finished[name]}) > 1]
    scales = [_setting(name, finished[name]) for name in fields]
    return [*scales, *(_number(name, finished[name]) for name in (*run.costs, run.metric))]


def abbreviated(label: str, most: int = _MOST_CHARACTERS) -> str:
    """Cut a label in its middle, since names that begin alike often differ at their ends."""
    if len(label) <= most:
        return label
    tail = (most - 1) // 2
    return f"{label[: most - 1 - tail]}…{label[-tail:]}"


def _setting(name: str, values: Iterable[Any]) -> Scale:
    cells = [plain(value) for value in values]
    known = {cell for cell in cells if cell is not None}
    numbers = all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in known)
    if numbers and len(known) > _MOST_WORDS and len(known) == len(set(cells)):
        return _number(name, cells)
    # Numbers are sorted by value, words by alphabet; a missing value comes last.
    order = sorted(known, key=lambda cell: cell if numbers else str(cell))
    order += [None] if None in cells else []
    positions = {cell: float(index) for index, cell in enumerate(order)}
    return Scale(
        column=name,
        title=heading(name),
        positions=np.array([positions[cell] for cell in cells]),
        ends=(0.0, max(1.0, len(order) - 1.0)),
        tick_positions=list(positions.values()),
        tick_labels=[abbreviated(write_setting(name, cell)) for cell in order],
    )


def _number(name: str, values: Iterable[Any]) -> Scale:
    numbers = np.array(list(values), dtype=float)
    log = not is_metric(name) and spans_magnitudes(numbers)
    positions = np.log10(numbers) if log else numbers
    low, high = float(positions.min()), float(positions.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    ticks = np.linspace(low, high, _NUM_TICKS)
    labels = [
        write_percent(tick) if is_metric(name) else write_number(10**tick if log else tick)
        for tick in ticks
    ]
    return Scale(
        column=name,
        title=heading(name),
        positions=positions,
        ends=(low, high),
        tick_positions=ticks.tolist(),
        tick_labels=labels,
    )
