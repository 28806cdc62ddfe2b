"""Learning curves of the front: accuracy and loss over epochs; training is dotted."""

from pathlib import Path

import plotly.graph_objects as go

from analysis.plot_style import picture_title, save_picture, tidy, titled_figure
from analysis.plots.html_style import page_figure
from analysis.results.curves import Curve
from analysis.results.report_data import ReportData

_ACCURACY, _LOSS = "accuracy (%)", "loss (cross-entropy)"


def draw_curves_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw accuracy (%) and loss beside each other, where a trial of the front has epochs."""
    if not data.curves:
        return []
    figure = titled_figure(9, 4.4, picture_title(data.run))
    left, right = figure.subplots(1, 2)
    for curve in data.curves:
        style = {"color": curve.colour, "lw": 1.8}
        left.plot(curve.epoch, 100 * curve.accuracy, marker=".", label=curve.label, **style)
        left.plot(curve.epoch, 100 * curve.train_accuracy, ls=":", **style)
        right.plot(curve.epoch, curve.val_loss, marker=".", **style)
        right.plot(curve.epoch, curve.train_loss, ls=":", **style)
    for axes, label in ((left, _ACCURACY), (right, _LOSS)):
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
    """Draw accuracy (%) and loss, a figure each, where a trial of the front has epochs."""
    if not data.curves:
        return {}
    return {
        "curves-accuracy": _accuracy_figure(data.curves),
        "curves-loss": _loss_figure(data.curves),
    }


def _accuracy_figure(curves: list[Curve]) -> go.Figure:
    figure = _epochs_figure(curves, title=_ACCURACY, height=420)
    for curve in curves:
        figure.add_trace(_trace(curve, 100 * curve.accuracy, "validation"))
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
