"""What was expected of each complete trial's metric when it began, and what came out."""

from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from matplotlib.ticker import MaxNLocator

from analysis.columns import COMPLETE, heading, in_a_sentence, write_percent
from analysis.plot_style import (
    GREY,
    OKABE_ITO,
    picture_text,
    picture_title,
    save_picture,
    tidy,
    titled_figure,
)
from analysis.plots.html_style import page_figure, round_values
from analysis.results.calibration import Calibration
from analysis.results.report_data import ReportData

_WITHIN, _OUTSIDE = OKABE_ITO[0], OKABE_ITO[1]
_INTERVAL_COLOUR, _MEDIAN_COLOUR = "#d5dae1", "#4a5564"
_X = "trial, in the order in which they began"
_INTERVAL = "expected: 80 % interval and median"

_SELECTED = (
    " Most trials that begin badly are stopped or paused, so those that are complete tend to be"
    " better than was expected."
)


def describe_calibration(data: ReportData) -> str:
    """How many trials ended within their interval, for the page."""
    found = data.calibration
    assert found is not None
    low, high = found.likely_within
    selected = set(data.run.trials["state"]) != {COMPLETE}
    return (
        f"When a trial begins, the search foretells its last"
        f" {in_a_sentence(data.run.metric)}. {found.in_words()}; a well"
        f" calibrated search has 80 %, here {low:,} to {high:,} trials. {found.num_above_median:,}"
        f" of {len(found.trials):,} ended above their median."
        + (" The intervals are too narrow." if found.num_within < low else "")
        + (" The intervals are wider than they have to be." if found.num_within > high else "")
        + (_SELECTED if selected else "")
    )


def draw_calibration_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw an interval, its median and a mark for each trial; nothing without expectations."""
    found = data.calibration
    if found is None:
        return []
    figure = titled_figure(9, 4.4, picture_title(data.run))
    axes = figure.add_subplot()
    axes.set_title(f"{found.in_words()}; well calibrated: 80 %", loc="left", fontsize=9)
    step = _step(found, 560)
    low, middle, high = (100 * one for one in (found.low, found.median, found.high))
    bar = min(0.55 * step, 9.0)
    axes.vlines(
        found.trials, low, high, color=_INTERVAL_COLOUR, lw=bar, capstyle="butt", zorder=2,
        label=_INTERVAL,
    )  # fmt: skip
    axes.scatter(found.trials, middle, marker="_", s=bar**2, color=_MEDIAN_COLOUR, lw=1.2, zorder=3)
    size = float(np.clip(0.9 * step, 2.5, 5.5)) ** 2
    for name, rows, colour, marker in _groups(found):
        axes.scatter(
            found.trials[rows], 100 * found.found[rows], marker=marker[0], s=size, color=colour,
            edgecolors="white", linewidths=0.5, zorder=4, label=f"{name} ({rows.sum():,})",
        )  # fmt: skip
    axes.set_xlabel(_X)
    axes.set_ylabel(picture_text(heading(data.run.metric)))
    axes.set_ylim(_limits(found))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.margins(x=0.02)
    tidy(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return [save_picture(figure, folder / "calibration.png")]


def draw_calibration_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw an interval, its median and a mark for each trial; nothing without expectations."""
    found = data.calibration
    if found is None:
        return {}
    figure = page_figure(height=400)
    bar = min(0.55 * _step(found, 800), 12.0)
    middle = 100 * found.median
    figure.add_trace(
        go.Scatter(
            x=found.trials, y=round_values(middle), mode="markers", name=_INTERVAL,
            marker={
                "symbol": "line-ew", "size": bar, "line": {"width": 1.5, "color": GREY},
            },
            error_y={
                "array": round_values(100 * found.high - middle),
                "arrayminus": round_values(middle - 100 * found.low),
                "color": "rgba(138,138,138,0.32)", "thickness": bar, "width": 0,
            },
            hoverinfo="skip",
        )
    )  # fmt: skip
    for name, rows, colour, marker in _groups(found):
        figure.add_trace(
            go.Scatter(
                x=found.trials[rows], y=round_values(100 * found.found[rows]), mode="markers",
                name=f"{name} ({rows.sum():,})",
                marker={"symbol": marker[1], "color": colour, "size": 7},
                text=[_hover(found, index) for index in np.flatnonzero(rows).tolist()],
                hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title=_X)
    y_title = escape(heading(data.run.metric), quote=False)
    figure.update_yaxes(title=y_title, range=list(_limits(found)))
    return {"calibration": figure}


def _groups(found: Calibration) -> list[tuple[str, np.ndarray, str, tuple[str, str]]]:
    """Trials within and outside of their intervals: words, rows, colour and shapes of the marks."""
    both = [
        ("ended within", found.within, _WITHIN, ("o", "circle")),
        ("ended outside", ~found.within, _OUTSIDE, ("D", "diamond")),
    ]
    return [group for group in both if group[1].any()]


def _hover(found: Calibration, index: int) -> str:
    low, median, high = (write_percent(one[index]) for one in (found.low, found.median, found.high))
    return (
        f"trial {found.trials[index]}, {found.models[index]}<br>"
        f"ended at {write_percent(found.found[index])} %<br>"
        f"expected {median} % ({low} to {high})"
    )


def _step(found: Calibration, width: float) -> float:
    """The distance between two trials' marks on an axis of this width, in its unit."""
    return width / (int(found.trials[-1]) - int(found.trials[0]) + 1)


def _limits(found: Calibration) -> tuple[float, float]:
    """Ends of the axis (%). It shows all that came out; wide intervals go on beyond it."""
    shown = 100 * np.concatenate([found.found, found.median])
    low, high = float(shown.min()), float(shown.max())
    margin = max(0.2 * (high - low), 3.0)
    return (
        max(low - margin, min(100 * float(found.low.min()), low) - 2.0, -2.0),
        min(high + margin, max(100 * float(found.high.max()), high) + 2.0, 102.0),
    )
