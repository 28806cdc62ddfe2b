"""Parallel coordinates: a line a finished trial across its settings, its costs and its accuracy."""

from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from matplotlib.collections import LineCollection

from analysis.plot_style import picture_text, picture_title, save_picture, titled_figure
from analysis.plots.html_style import page_figure
from analysis.results.parallel import Scale
from analysis.results.report_data import ReportData

# Draw at most this many lines, evenly chosen: of more, only the last ones could be seen.
_MOST_LINES = 1500
# The room that a label of an axis takes on the page.
_AXIS_PIXELS, _TICK_PIXELS = 74, 15


def draw_parallel_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw the lines, coloured by the metric; the best lie on top."""
    scales = data.scales
    height = max(4.6, 1.1 + 0.16 * _most_ticks(data))
    figure = titled_figure(max(9.0, 1.25 * len(scales)), height, picture_title(data.run))
    axes = figure.add_subplot()
    heights = np.array(
        [(scale.positions - scale.ends[0]) / (scale.ends[1] - scale.ends[0]) for scale in scales]
    ).T
    metric = next(scale for scale in scales if scale.column == data.run.metric)
    order = np.argsort(metric.positions, kind="stable")
    if len(order) > _MOST_LINES:
        order = order[np.linspace(0, len(order) - 1, _MOST_LINES).astype(int)]
    across = np.arange(len(scales), dtype=float)
    lines = LineCollection(
        [np.column_stack([across, row]) for row in heights[order]],
        array=100 * metric.positions[order], cmap="cividis", alpha=0.6, lw=1,
    )  # fmt: skip
    axes.add_collection(lines)
    for index, scale in enumerate(scales):
        axes.axvline(index, color="#444444", lw=0.8)
        span = scale.ends[1] - scale.ends[0]
        for tick, label in zip(scale.tick_positions, scale.tick_labels, strict=True):
            axes.text(
                index + 0.03, (tick - scale.ends[0]) / span, label, fontsize=7.5, va="center",
                bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.6, "lw": 0},
            )  # fmt: skip
    axes.set_xlim(-0.1, len(scales) - 1 + 0.55)
    axes.set_ylim(-0.04, 1.04)
    titles = [picture_text(scale.title).replace(" ", "\n", 1) for scale in scales]
    axes.set_xticks(across, titles, fontsize=8.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    figure.colorbar(lines, ax=axes, label=picture_text(metric.title), pad=0.01, fraction=0.03)
    return [save_picture(figure, folder / "parallel.png")]


def draw_parallel_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw the lines, coloured by the metric; the page can filter them along each axis."""
    figure = page_figure(height=420)
    metric = next(scale for scale in data.scales if scale.column == data.run.metric)
    figure.add_trace(
        go.Parcoords(
            line={
                "color": 100 * metric.positions, "colorscale": "Cividis", "showscale": True,
                "colorbar": {"title": {"text": _text(metric), "side": "right"}, "thickness": 12},
            },
            dimensions=[
                {
                    "label": _text(scale), "values": scale.positions, "range": scale.ends,
                    "tickvals": scale.tick_positions, "ticktext": scale.tick_labels,
                }
                for scale in data.scales
            ],
            labelangle=-25 if len(data.scales) > 6 else 0,
            tickfont={"size": 9},
        )
    )  # fmt: skip
    # The page reads how wide it has to be, so that no label reaches the next axis.
    width = _AXIS_PIXELS * len(data.scales) + 150
    figure.update_layout(
        margin={"l": 90, "r": 30, "t": 90, "b": 20}, meta={"width": width},
        height=max(420, 110 + _TICK_PIXELS * _most_ticks(data)),
    )  # fmt: skip
    return {"parallel": figure}


def _text(scale: Scale) -> str:
    # Plotly would read tags of HTML in a class's name.
    return escape(scale.title, quote=False)


def _most_ticks(data: ReportData) -> int:
    return max(len(scale.tick_labels) for scale in data.scales)
