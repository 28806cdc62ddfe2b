"""How the front grew: the hypervolume over finished trials and over time."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from analysis.pareto.front import FloatArray
from analysis.plot_style import (
    OKABE_ITO,
    picture_text,
    picture_title,
    save_picture,
    tidy,
    titled_figure,
)
from analysis.plots.html_style import page_figure
from analysis.results.hypervolume_trace import HypervolumeTrace
from analysis.results.report_data import ReportData

_LABEL = "hypervolume (%)"


def draw_hypervolume_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw a panel over finished trials and, where times are known, one over time."""
    panels = list(_panels(data.history))
    figure = titled_figure(9, 3.8, picture_title(data.run))
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for one, panel in zip(axes, panels, strict=True):
        one.step(panel.x, panel.percents, where="post", color=OKABE_ITO[0], lw=2)
        one.set_xlabel(panel.title)
        one.set_xlim(left=0)
        tidy(one)
    # One condition a line: the axis is short.
    notes = map(picture_text, data.history.measured_in.notes)
    axes[0].set_ylabel("\n".join([_LABEL, *notes]), fontsize=8)
    axes[0].set_ylim(bottom=0)
    return [save_picture(figure, folder / "history.png")]


def draw_hypervolume_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw a figure over finished trials and, where times are known, one over time."""
    figures = {}
    for panel in _panels(data.history):
        figure = page_figure(height=340)
        figure.add_trace(
            go.Scatter(
                x=panel.x, y=panel.percents, mode="lines",
                line={"shape": "hv", "width": 2, "color": OKABE_ITO[0]},
                hovertemplate=f"%{{x:.4g}} {panel.unit}: %{{y:.1f}} %<extra></extra>",
            )
        )  # fmt: skip
        figure.update_xaxes(title=panel.title, rangemode="tozero")
        notes = (escape(note, quote=False) for note in data.history.measured_in.notes)
        title = "<br>".join([_LABEL, *notes])
        figure.update_yaxes(title={"text": title, "font": {"size": 11}}, rangemode="tozero")
        figure.update_layout(showlegend=False)
        figures[f"history-{panel.over}"] = figure
    return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    over: str
    unit: str
    title: str
    x: FloatArray
    """(steps + 1,): where the front grew, and the end of the search."""
    percents: FloatArray
    """(steps + 1,): the hypervolume from there on."""


def _panels(history: HypervolumeTrace) -> Iterator[_Panel]:
    percents = 100 * np.append(history.hypervolumes, history.hypervolumes[-1])
    yield _Panel(
        over="trials", unit="trials", title="finished trials", percents=percents,
        x=np.append(history.finished, history.num_finished),
    )  # fmt: skip
    if history.seconds is not None and history.total_seconds is not None:
        yield _Panel(
            over="time", unit="min", title="minutes of the search", percents=percents,
            x=np.append(history.seconds, history.total_seconds) / 60,
        )  # fmt: skip
