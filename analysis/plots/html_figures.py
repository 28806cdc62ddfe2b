"""A run's pictures for a page that is opened in a browser, drawn by Plotly.

They leave colours of text and grid to the page, which may be light or dark; `front_picture` and
`png_figures` draw the same as PNG files.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.columns import amount, describe_recipe, heading, is_missing, write_percent
from analysis.pareto.front import FloatArray, front_order
from analysis.plot_style import (
    GREY,
    OKABE_ITO,
    axis_title,
    model_styles,
    spans_magnitudes,
    write_tick,
)
from analysis.results.class_accuracy import SplitPredictions, class_accuracies
from analysis.results.curves import Curve
from analysis.results.distribution import images_per_class, shortened
from analysis.results.hypervolume_trace import HypervolumeTrace
from analysis.results.importances import by_importance
from analysis.results.parallel import Scale
from analysis.runs import Run
from spaces.columns import ACCURACY, COSTS

# Shapes of Plotly in the order of `pictures.MARKERS`.
_SYMBOLS = (
    *("circle", "square", "diamond", "triangle-down", "triangle-up", "star", "cross", "x"),
    *("hexagon", "triangle-left", "triangle-right", "diamond-tall", "hexagon2", "pentagon"),
)
# Beyond so many points a browser draws them with WebGL.
_SVG_POINTS = 1500
_HOVER_WIDTH = 44


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontFigure:
    """Accuracy against cost, and what changes where another cost is chosen."""

    figure: go.Figure
    costs: dict[str, dict[str, Any]]
    """Cost column -> {label, title, type, traces: what replaces each trace's x, y and text}."""
    first: str
    """The cost that is shown at first."""


def front_figure(run: Run) -> FrontFigure:
    """Every trial with its accuracy (%) against each cost that the run has measured.

    The front is drawn anew for each cost: the finished trials that no other beats in accuracy and
    that cost. Hollow marks are int8 models. Raises UserError where no trial is finished.
    """
    finished, stopped = run.require_finished(), run.stopped
    styles = model_styles(finished)
    many = len(finished) + len(stopped) > _SVG_POINTS
    scatter = go.Scattergl if many else go.Scatter
    figure = page_figure(height=520)
    figure.add_trace(
        scatter(
            name="stopped early", mode="markers", hoverinfo="text",
            marker={"symbol": "x-thin", "size": 6, "line": {"width": 1, "color": GREY}},
            opacity=0.55, text=_hovers(stopped), y=100 * stopped[ACCURACY],
            visible=bool(len(stopped)),
        )
    )  # fmt: skip
    groups = [stopped]
    for model in styles:
        rows = finished.loc[finished["model"] == model]
        groups.append(rows)
        figure.add_trace(
            scatter(
                name=model, mode="markers", hoverinfo="text", text=_hovers(rows),
                y=100 * rows[ACCURACY], marker={"size": 8, **_marks(rows, styles)}, opacity=0.45,
            )
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            name="front", mode="lines+markers", hoverinfo="text",
            line={"shape": "hv", "width": 1.5, "color": GREY},
        )
    )  # fmt: skip
    costs = {
        name: _cost_view(finished, groups, styles, name)
        for name in COSTS
        if np.isfinite(finished[name].to_numpy(dtype=float)).all()
    }
    first = run.costs[0] if run.costs[0] in costs else next(iter(costs))
    figure.update_yaxes(title="validation accuracy (%)")
    figure.update_layout(hovermode="closest")
    return FrontFigure(figure=figure, costs=costs, first=first)


def _cost_view(
    finished: pd.DataFrame,
    groups: list[pd.DataFrame],
    styles: Mapping[str, tuple[str, str]],
    cost: str,
) -> dict[str, Any]:
    numbers = finished[[cost, ACCURACY]].to_numpy(dtype=float)
    front = finished.iloc[front_order(numbers * [1.0, -1.0])]
    marks = {"size": 13, "opacity": 1, **_marks(front, styles)}
    traces: list[dict[str, Any]] = [{"x": _rounded(rows[cost])} for rows in groups]
    traces.append(
        {
            "x": _rounded(front[cost]),
            "y": _rounded(100 * front[ACCURACY]),
            "text": _hovers(front),
            "marker": marks,
        }
    )
    values = finished[cost].to_numpy(dtype=float)
    log = spans_magnitudes(values)
    return {
        "label": heading(cost),
        "title": axis_title(cost),
        "type": "log" if log else "linear",
        "ticks": magnitude_ticks(values) if log else None,
        "traces": traces,
    }


def magnitude_ticks(costs: FloatArray) -> dict[str, list[Any]]:
    """1, 2 and 5 of every magnitude; Plotly's own leave out the magnitude at 2 and 5."""
    low, high = math.floor(np.log10(costs.min())), math.ceil(np.log10(costs.max()))
    steps = (1, 2, 5) if high - low <= 3 else (1,)
    values = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return {"tickvals": values, "ticktext": [write_tick(value) for value in values]}


def hypervolume_figure(history: HypervolumeTrace, *, over: str) -> go.Figure:
    """Hypervolume over finished trials (over="trials") or over the search's minutes ("time")."""
    figure = page_figure(height=340)
    if over == "time":
        assert history.seconds is not None
        assert history.total_seconds is not None
        x, end = history.seconds / 60, history.total_seconds / 60
        unit, title = "min", "minutes of the search"
    else:
        x, end = history.finished, history.num_finished
        unit, title = "trials", "finished trials"
    x, y = np.append(x, end), 100 * np.append(history.hypervolumes, history.hypervolumes[-1])
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode="lines", line={"shape": "hv", "width": 2, "color": "#0072B2"},
            hovertemplate=f"%{{x:.4g}} {unit}: %{{y:.1f}} %<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title=title, rangemode="tozero")
    figure.update_yaxes(title="hypervolume (% of the box)", rangemode="tozero")
    figure.update_layout(showlegend=False)
    return figure


def curves_figure(curves: list[Curve], *, what: str) -> go.Figure:
    """Validation (solid) and training (dotted) curves: what="accuracy" in %, or "loss"."""
    figure = page_figure(height=380)
    for curve in curves:
        val, train = (
            (100 * curve.accuracy, 100 * curve.train_accuracy)
            if what == "accuracy"
            else (curve.val_loss, curve.train_loss)
        )
        for values, part, dash in ((val, "validation", "solid"), (train, "training", "dot")):
            figure.add_trace(
                go.Scatter(
                    x=curve.epoch, y=values, name=curve.label, legendgroup=curve.label,
                    showlegend=part == "validation", mode="lines+markers",
                    line={"dash": dash, "color": curve.colour, "width": 2},
                    marker={"size": 5 if part == "validation" else 1},
                    hovertemplate=f"epoch %{{x}}, {part}: %{{y:.4g}}<extra>{curve.label}</extra>",
                )
            )  # fmt: skip
    # One legend is enough where the two stand below each other on a phone.
    figure.update_layout(showlegend=what == "accuracy", height=420 if what == "accuracy" else 320)
    figure.update_xaxes(title="epoch", dtick=1 if max(len(c.epoch) for c in curves) <= 12 else None)
    figure.update_yaxes(title="accuracy (%)" if what == "accuracy" else "loss (cross-entropy)")
    return figure


def importances_figure(importances: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Bars for each field, one colour for each objective; lengths are shares of 1."""
    fields = by_importance(importances)
    figure = page_figure(height=110 + 26 * len(fields) * max(1, len(importances)))
    for index, (objective, shares) in enumerate(importances.items()):
        figure.add_trace(
            go.Bar(
                y=[field.replace("_", " ") for field in fields],
                x=[100 * shares.get(field, 0.0) for field in fields],
                orientation="h", name=f"for {heading(objective).removesuffix(' (%)')}",
                marker={"color": OKABE_ITO[index % len(OKABE_ITO)]},
                hovertemplate="%{y}: %{x:.1f} %<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title="importance (%)", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return figure


def parallel_figure(scales: list[Scale]) -> go.Figure:
    """A line a finished trial across its settings, its costs and its accuracy, which colours it."""
    figure = page_figure(height=420)
    accuracy = next(scale for scale in scales if scale.column == ACCURACY)
    figure.add_trace(
        go.Parcoords(
            line={
                "color": 100 * accuracy.positions, "colorscale": "Cividis", "showscale": True,
                "colorbar": {"title": {"text": accuracy.title, "side": "right"}, "thickness": 12},
            },
            dimensions=[
                {
                    "label": scale.title, "values": scale.positions, "range": scale.ends,
                    "tickvals": scale.tick_positions,
                    "ticktext": [shortened(label, 16) for label in scale.tick_labels],
                }
                for scale in scales
            ],
            labelangle=-25 if len(scales) > 6 else 0,
        )
    )  # fmt: skip
    figure.update_layout(margin={"l": 110, "r": 30, "t": 90, "b": 20})
    return figure


def classes_figure(predictions: SplitPredictions) -> go.Figure:
    """The accuracy (%) of each class, the worst first."""
    table = class_accuracies(predictions)
    figure = page_figure(height=140 + 17 * len(table))
    figure.add_trace(
        go.Bar(
            y=table["class"], x=100 * table["accuracy"], orientation="h",
            marker={"color": "#56B4E9"}, customdata=table["images"],
            hovertemplate="%{y}: %{x:.1f} % of %{customdata} images<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="accuracy (%) on validation images", range=[0, 100])
    figure.update_yaxes(autorange="reversed", type="category", dtick=1)
    return figure


def distribution_figure(labels: np.ndarray, classes: tuple[str, ...]) -> go.Figure:
    """The images of each class as bars, the largest first."""
    counts = images_per_class(labels, classes)
    order = np.argsort(-counts, kind="stable").tolist()
    figure = page_figure(height=360)
    figure.add_trace(
        go.Bar(
            x=[classes[index] for index in order], y=counts[order], marker={"color": "#56B4E9"},
            hovertemplate="%{x}: %{y} images<extra></extra>",
        )
    )  # fmt: skip
    figure.add_hline(y=float(counts.mean()), line={"color": "#D55E00", "width": 1.5})
    figure.update_xaxes(type="category", tickangle=-60, showticklabels=len(classes) <= 60)
    figure.update_yaxes(title="images (line: the mean)")
    return figure


def page_figure(*, height: int) -> go.Figure:
    """An empty figure whose text and grid colours are the page's."""
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


def _marks(rows: pd.DataFrame, styles: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Colours and shapes of a trace's marks; int8 models are hollow."""
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


def _hovers(rows: pd.DataFrame) -> list[str]:
    """What is told of each trial where it is pointed at."""
    texts = []
    for row in rows.to_dict("records"):
        message = [f"<b>trial {row['trial']}</b>: {write_percent(row[ACCURACY])} %"]
        message += [amount(name, row[name]) for name in ("effective_gflops", "params", "size_mb")]
        if not is_missing(row["latency_ms"]):
            message.append(amount("latency_ms", row["latency_ms"]))
        texts.append("<br>".join([", ".join(message), *folded(describe_recipe(row))]))
    return texts


def folded(text: str) -> list[str]:
    """Lines of a recipe's words, short enough to be told where a mark is pointed at."""
    lines = [""]
    for word in text.split(", "):
        joined = f"{lines[-1]}, {word}" if lines[-1] else word
        if len(joined) <= _HOVER_WIDTH:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def _rounded(values: Any) -> list[float | None]:
    numbers = np.asarray(values, dtype=float).tolist()
    return [None if math.isnan(number) else float(f"{number:.6g}") for number in numbers]
