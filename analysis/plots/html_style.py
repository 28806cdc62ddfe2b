"""How the page's figures look: an empty Plotly figure, marks, ticks, and the lines of a hover text.

The page gives text and grid their colours, because it may be light or dark.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.pareto.front import FloatArray
from analysis.plot_style import write_tick

# Plotly's shapes in the order of `plot_style.MARKERS`.
_SYMBOLS = (
    *("circle", "square", "diamond", "triangle-down", "triangle-up", "star", "cross", "x"),
    *("hexagon", "triangle-left", "triangle-right", "diamond-tall", "hexagon2", "pentagon"),
)
HOVER_WIDTH = 44
"""Characters to a line of a hover text."""


def page_figure(*, height: int) -> go.Figure:
    """An empty figure of this height in pixels, without colours for text and grid."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 16, "t": 16, "b": 48},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
        xaxis={"automargin": True, "zeroline": False},
        yaxis={"automargin": True, "zeroline": False},
        hoverlabel={"align": "left"},
    )
    return figure


def magnitude_ticks(costs: FloatArray) -> dict[str, list[Any]]:
    """1, 2 and 5 of every magnitude; at 2 and 5 Plotly's own ticks leave out the magnitude."""
    low, high = math.floor(np.log10(costs.min())), math.ceil(np.log10(costs.max()))
    steps = (1, 2, 5) if high - low <= 3 else (1,)
    values = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return {"tickvals": values, "ticktext": [write_tick(value) for value in values]}


def mark_shapes(rows: pd.DataFrame, styles: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Colours and shapes of the marks of these trials; int8 models are hollow.

    styles: of each model, see `plot_style.model_styles`.
    """
    positions = {model: index for index, model in enumerate(styles)}
    symbols = [
        _SYMBOLS[positions[model] % len(_SYMBOLS)] + ("-open" if qat else "")
        for model, qat in zip(rows["model"], rows["qat"], strict=True)
    ]
    # Black would vanish on a dark page.
    colours = [styles[model][0].replace("#000000", "#7f7f7f") for model in rows["model"]]
    return {"symbol": _shared(symbols), "color": _shared(colours)}


def _shared(values: list[str]) -> Any:
    """One value where all are alike: a page of ten thousand trials is smaller for it."""
    return values[0] if values and len(set(values)) == 1 else values


def fold(text: str) -> list[str]:
    """Break a recipe's words at their commas into lines for a hover text."""
    lines = [""]
    for word in text.split(", "):
        joined = f"{lines[-1]}, {word}" if lines[-1] else word
        if len(joined) <= HOVER_WIDTH:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def round_values(values: Any) -> list[float | None]:
    """Six significant digits of each number; NaN becomes None, as JSON has no NaN."""
    numbers = np.asarray(values, dtype=float).tolist()
    return [None if math.isnan(number) else float(f"{number:.6g}") for number in numbers]
