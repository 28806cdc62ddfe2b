"""Learning curves of the front: metric and loss over epochs; training is dotted."""

from html import escape
from pathlib import Path

import plotly.graph_objects as go

from analysis.columns import heading
from analysis.plot_style import picture_text, picture_title, save_picture, tidy, titled_figure
from analysis.plots.html_style import page_figure
from analysis.results.curves import Curve
from analysis.results.report_data import ReportData
from spaces.columns import ACCURACY

_LOSS = "loss (cross-entropy)"


def draw_curves_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw the metric (%) and the loss beside each other, where a trial of the front has epochs."""
    if not data.curves:
        return []
    figure = titled_figure(9, 4.4, picture_title(data.run))
    left, right = figure.subplots(1, 2)
    for curve in data.curves:
        style = {"color": curve.colour, "lw": 1.8}
        left.plot(curve.epoch, 100 * curve.metric, marker=".", label=curve.label, **style)
        if data.run.metric == ACCURACY:
            left.plot(curve.epoch, 100 * curve.train_accuracy, ls=":", **style)
        right.plot(curve.epoch, curve.val_loss, marker=".", **style)
        right.plot(curve.epoch, curve.train_loss, ls=":", **style)
    for axes, label in ((left, picture_text(heading(data.run.metric))), (right, _LOSS)):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False,
        fontsize=8.5, title="solid: validation, dotted: training", title_fontsize=8.5,
    )  # fmt: skip
    return [save_picture(figure, folder / "curves.png")]


def draw_curves_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw the metric (%) and the loss, a figure each, where a trial of the front has epochs."""
    if not data.curves:
        return {}
    return {
        "curves-metric": _metric_figure(data.curves, data.run.metric),
        "curves-loss": _loss_figure(data.curves),
    }


def _metric_figure(curves: list[Curve], metric: str) -> go.Figure:
    figure = _epochs_figure(curves, title=escape(heading(metric), quote=False), height=420)
    for curve in curves:
        figure.add_trace(_trace(curve, 100 * curve.metric, "validation"))
        if metric == ACCURACY:
            figure.add_trace(_trace(curve, 100 * curve.train_accuracy, "training"))
    return figure


def _loss_figure(curves: list[Curve]) -> go.Figure:
    figure = _epochs_figure(curves, title=_LOSS, height=320)
    for curve in curves:
        figure.add_trace(_trace(curve, curve.val_loss, "validation"))
        figure.add_trace(_trace(curve, curve.train_loss, "training"))
    # The legend of the accuracies, which stand above, is enough.
    figure.update_layout(showlegend=False)
    return figure


def _epochs_figure(curves: list[Curve], *, title: str, height: int) -> go.Figure:
    figure = page_figure(height=height)
    every_epoch = max(len(curve.epoch) for curve in curves) <= 12
    figure.update_xaxes(title="epoch", dtick=1 if every_epoch else None)
    figure.update_yaxes(title=title)
    figure.update_layout(showlegend=True)
    return figure


def _trace(curve: Curve, values: object, split: str) -> go.Scatter:
    validation = split == "validation"
    return go.Scatter(
        x=curve.epoch, y=values, name=curve.label, legendgroup=curve.label,
        showlegend=validation, mode="lines+markers",
        line={"dash": "solid" if validation else "dot", "color": curve.colour, "width": 2},
        marker={"size": 5 if validation else 1},
        hovertemplate=f"epoch %{{x}}, {split}: %{{y:.4g}}<extra>{curve.label}</extra>",
    )  # fmt: skip
