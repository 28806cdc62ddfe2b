"""The front as text for a terminal, legible with and without colour."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotext

from analysis.columns import heading
from analysis.pareto.front import FloatArray
from analysis.plot_style import GREY, model_styles, picture_title, spans_magnitudes, write_tick
from analysis.runs import Run

_DOMINATED, _PRUNED = "·", "×"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def front_text(run: Run, *, width: int = 80, height: int = 20, colour: bool = True) -> str:
    """Draw the metric (%) against the first cost of the run, in characters.

    width and height are in characters and include everything. On the front a letter stands for
    the model, as the lines below the plot say. With colour the text holds ANSI sequences.
    Raises UserError where no trial is finished.
    """
    front, finished, cost = run.front(), run.finished, run.costs[0]
    pruned = run.stopped.dropna(subset=[cost])
    behind = finished.loc[~finished["trial"].isin(front["trial"])]
    styles = model_styles(front)
    letters = {model: _LETTERS[index % len(_LETTERS)] for index, model in enumerate(styles)}
    legend = [f"{letter} {model}" for model, letter in letters.items()]
    legend += [f"{_DOMINATED} dominated"] if len(behind) else []
    legend += [f"{_PRUNED} stopped early"] if len(pruned) else []
    below = _folded(legend, width)
    # Later groups cover earlier ones.
    groups = [_group(run, pruned, _PRUNED, GREY), _group(run, behind, _DOMINATED, GREY)]
    groups += [
        _group(run, front.loc[front["model"] == model], letter, styles[model][0])
        for model, letter in letters.items()
    ]
    axis = f"{heading(run.metric)} over {heading(cost)}"
    plot = _scatter(groups, width=width, height=height - len(below) - 2)
    text = "\n".join([picture_title(run)[:width], axis[:width], plot, *below])
    return text if colour else plotext.uncolorize(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    x: FloatArray
    y: FloatArray
    mark: str
    colour: str


def _group(run: Run, rows: pd.DataFrame, mark: str, colour: str) -> _Group:
    x, y = (rows[name].to_numpy(dtype=float) for name in (run.costs[0], run.metric))
    y = 100 * y
    return _Group(x=x, y=y, mark=mark, colour=colour)


def _scatter(groups: list[_Group], *, width: int, height: int) -> str:
    """Draw groups of marks with plotext, and empty its one global figure afterwards."""
    costs = np.concatenate([group.x for group in groups])
    log = spans_magnitudes(costs)
    low, high = float(costs.min()), float(costs.max())
    count = 5 if high > low else 1
    ticks = np.geomspace(low, high, count) if log else np.linspace(low, high, count)
    figure = plotext.figure
    figure.clear()
    try:
        plotext.terminal.limit(False, False)  # the caller knows the width, a pipe has none
        figure.theme("simple")
        figure.plot_size(width, height)
        for group in groups:
            if len(group.x):
                pixel = plotext.pixel(foreground=_rgb(group.colour))
                marker = plotext.marker(group.mark, pixel)
                indices = np.log10(group.x) if log else group.x
                figure.draw(figure.signal(indices.tolist(), group.y.tolist(), marker=marker))
        indices = np.log10(ticks) if log else ticks
        labels = [write_tick(float(f"{tick:.2g}")) for tick in ticks]
        figure.ruler("x").ticks(indices.tolist(), labels)
        return figure.build().string().rstrip("\n")
    finally:
        figure.clear()
        plotext.terminal.limit(True, True)


def _folded(words: list[str], width: int) -> list[str]:
    lines = [""]
    for word in words:
        joined = f"{lines[-1]}   {word}" if lines[-1] else word
        if len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word[:width])
    return lines


def _rgb(colour: str) -> tuple[int, int, int] | None:
    """Turn #RRGGBB into numbers. Black becomes the terminal's own text colour."""
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return (red, green, blue) if red or green or blue else None
