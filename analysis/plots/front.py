"""The front for the page, where the cost can be chosen; `front_picture` draws it as a PNG."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.columns import (
    amount,
    describe_recipe,
    heading,
    in_a_sentence,
    is_missing,
    write_percent,
)
from analysis.pareto.front import front_order
from analysis.plot_style import (
    GREY,
    accuracy_range,
    axis_title,
    model_styles,
    spans_magnitudes,
)
from analysis.plots.front_picture import front_picture
from analysis.plots.html_style import (
    HOVER_WIDTH,
    fold,
    magnitude_ticks,
    mark_shapes,
    page_figure,
    round_values,
)
from analysis.results.report_data import ReportData
from analysis.runs import Run
from spaces.columns import COSTS

# A browser draws more points than this with WebGL.
_SVG_POINTS = 1500

# The same in other words as effective_gflops, which says more.
_NOT_IN_HOVER = ("gmacs", "gflops", "gbops")


def describe_front(data: ReportData) -> str:
    """What the page says above the front."""
    quantised = data.run.finished["qat"].to_numpy(dtype=bool).any()
    hollow = "Hollow marks are int8 models. " if quantised else ""
    return (
        f"Every trial is a mark. The line joins the trials that no other beats in both"
        f" {in_a_sentence(data.run.metric)} and cost. {hollow}Point at a mark, or tap it, for its"
        " recipe."
    )


def draw_front_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw the front against the run's first cost."""
    return [front_picture(data.run, folder / "front.png")]


def draw_front_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw the front against any cost that the run has measured: see `front_figure`."""
    return {"front": front_figure(data.run)}


def front_figure(run: Run) -> go.Figure:
    """Draw every trial with its metric (%) against each cost that the run has measured.

    The front is drawn anew for each cost: the feasible trials that no other beats in the metric and
    that cost. Hollow marks are int8 models. A cost that the run's front has, but not every trial,
    is drawn for the trials that have it. layout.meta tells the page what a choice of the cost
    changes: first is the cost that is shown first; costs has for each cost column its label, the
    axis' title, type and ticks, the range of metrics (%) that shows its front, the number of
    trials below that, and in traces what replaces x, y and text of each trace.
    Raises UserError where no trial is feasible.
    """
    feasible, finished, stopped = run.require_feasible(), run.finished, run.stopped
    metric = run.metric
    styles = model_styles(finished)
    many = len(finished) + len(stopped) > _SVG_POINTS
    scatter = go.Scattergl if many else go.Scatter
    figure = page_figure(height=520)
    figure.add_trace(
        scatter(
            name="stopped early", mode="markers", hoverinfo="text",
            marker={"symbol": "x-thin", "size": 6, "line": {"width": 1, "color": GREY}},
            opacity=0.55, text=_hover_texts(stopped, metric), y=100 * stopped[metric],
            visible=bool(len(stopped)),
        )
    )  # fmt: skip
    groups = [stopped]
    for model in styles:
        rows = finished.loc[finished["model"] == model]
        groups.append(rows)
        figure.add_trace(
            scatter(
                name=model, mode="markers", hoverinfo="text", text=_hover_texts(rows, metric),
                y=100 * rows[metric], marker={"size": 8, **mark_shapes(rows, styles)},
                opacity=0.6, legendgroup=model, showlegend=False,
            )
        )  # fmt: skip
        # The legend gets its own filled mark, because the model's first mark may be hollow.
        groups.append(rows.iloc[:0])
        filled = mark_shapes(rows.iloc[:1].assign(qat=False), styles)
        figure.add_trace(
            go.Scatter(
                name=model, mode="markers", legendgroup=model, x=[None], y=[None],
                marker={"size": 9, **filled},
            )
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            name="front", mode="lines+markers", hoverinfo="text",
            line={"shape": "hv", "width": 1.5, "color": GREY},
        )
    )  # fmt: skip
    best = run.front()
    costs = {
        name: _cost_view(feasible, groups, styles, name, metric)
        for name in COSTS
        if np.isfinite(best[name].to_numpy(dtype=float)).all()
    }
    first = run.costs[0] if run.costs[0] in costs else next(iter(costs))
    figure.update_yaxes(title=escape(f"validation {heading(metric)}", quote=False))
    figure.update_layout(hovermode="closest", meta={"first": first, "costs": costs})
    return figure


def _cost_view(
    feasible: pd.DataFrame,
    groups: list[pd.DataFrame],
    styles: Mapping[str, tuple[str, str]],
    cost: str,
    metric: str,
) -> dict[str, Any]:
    measured = feasible.loc[np.isfinite(feasible[cost].to_numpy(dtype=float))]
    numbers = measured[[cost, metric]].to_numpy(dtype=float)
    front = measured.iloc[front_order(numbers * [1.0, -1.0])]
    traces: list[dict[str, Any]] = [{"x": round_values(rows[cost]) or [None]} for rows in groups]
    shapes = mark_shapes(front, styles)
    traces.append(
        {
            "x": round_values(front[cost]),
            "y": round_values(100 * front[metric]),
            "text": _hover_texts(front, metric),
            "marker": {
                "size": 13,
                "opacity": 1,
                "line": {"width": 2, "color": shapes["color"]},
                **shapes,
            },
        }
    )
    values = np.concatenate([rows[cost].to_numpy(dtype=float) for rows in groups[1:]])
    values = values[np.isfinite(values)]
    log = spans_magnitudes(values)
    of = f", of {len(measured):,} trials" if len(measured) < len(feasible) else ""
    marks = np.vstack([rows[[cost, metric]].to_numpy(dtype=float) for rows in groups])
    shown = marks[np.isfinite(marks[:, 0]), 1]
    ends = accuracy_range(front[metric].to_numpy(dtype=float), shown)
    return {
        "label": heading(cost),
        "title": axis_title(cost) + of,
        "range": list(ends),
        "below": int((100 * shown < ends[0]).sum()),
        "type": "log" if log else "linear",
        "ticks": magnitude_ticks(values) if log else None,
        "traces": traces,
    }


def _hover_texts(rows: pd.DataFrame, metric: str) -> list[str]:
    """Each trial's metric, costs, recipe and, where it was stopped early, the reason."""
    texts = []
    for row in rows.to_dict("records"):
        numbers = [f"<b>trial {row['trial']}</b>: {write_percent(row[metric])} %"]
        numbers += [
            amount(name, row[name])
            for name in COSTS
            if name not in _NOT_IN_HOVER and not is_missing(row[name])
        ]
        lines = [", ".join(numbers), *fold(describe_recipe(row))]
        reason = row.get("stop_reason")
        if not is_missing(reason):
            lines += wrap(f"stopped: {reason}", HOVER_WIDTH)
        texts.append("<br>".join(lines))
    return texts
