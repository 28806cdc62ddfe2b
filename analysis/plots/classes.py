"""The chosen model class by class: its accuracy on each, and which it takes for which."""

from html import escape
from pathlib import Path

import plotly.graph_objects as go

from analysis.columns import write_percent
from analysis.plot_style import (
    OKABE_ITO,
    mark_label,
    picture_text,
    save_picture,
    tidy,
    titled_figure,
)
from analysis.plots.html_style import page_figure
from analysis.results.class_accuracy import SplitPredictions, class_accuracies, confusions
from analysis.results.distribution import shortened
from analysis.results.report_data import ReportData

_MOST_CLASSES = 60
_MOST_CONFUSIONS = 15


def describe_classes(data: ReportData) -> str:
    """The model and its accuracy on all classes together, for the page."""
    predictions, trials = data.predictions, data.run.trials
    assert isinstance(predictions, SplitPredictions)
    row = trials.loc[trials["trial"] == predictions.trial].iloc[0]
    return (
        f"Trial {predictions.trial}, {mark_label(row)}, is right on"
        f" {write_percent(predictions.accuracy)} % of the {len(predictions.labels):,} validation"
        " images."
    )


def draw_classes_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw the accuracy (%) of the 60 worst classes, and the pairs that are confused most.

    Nothing where the model's predictions are not known.
    """
    predictions = data.predictions
    if not isinstance(predictions, SplitPredictions):
        return []
    table = class_accuracies(predictions).head(_MOST_CLASSES)
    pairs = confusions(predictions).head(_MOST_CONFUSIONS)
    title = predictions_title(data.run.name, predictions)
    figure = titled_figure(11, 1.6 + 0.2 * max(len(table), len(pairs), 8), title)
    left, right = figure.subplots(1, 2)
    left.barh(range(len(table)), 100 * table["accuracy"], color=OKABE_ITO[5])
    left.set_yticks(range(len(table)), [class_name(name) for name in table["class"]], fontsize=8)
    left.set_xlabel("accuracy (%)")
    left.set_xlim(0, 100)
    named = [
        f"{class_name(true)} → {class_name(other)}"
        for true, other in zip(pairs["class"], pairs["taken_for"], strict=True)
    ]
    right.barh(range(len(pairs)), pairs["images"], color=OKABE_ITO[1])
    right.set_yticks(range(len(pairs)), named, fontsize=8)
    right.set_xlabel("validation images taken for the other class")
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.invert_yaxis()
        tidy(axes)
    return [save_picture(figure, folder / "classes.png")]


def draw_classes_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw the accuracy (%) of each class, the worst first.

    Nothing where the model's predictions are not known.
    """
    if not isinstance(data.predictions, SplitPredictions):
        return {}
    table = class_accuracies(data.predictions)
    # Plotly would read tags of HTML in names.
    names = [escape(name, quote=False) for name in table["class"]]
    figure = page_figure(height=140 + 17 * len(table))
    figure.add_trace(
        go.Bar(
            y=names, x=100 * table["accuracy"], orientation="h",
            marker={"color": OKABE_ITO[5]}, customdata=table["images"],
            hovertemplate="%{y}: %{x:.1f} % of %{customdata} images<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title="accuracy (%)", range=[0, 100])
    figure.update_yaxes(autorange="reversed", type="category", dtick=1)
    return {"classes": figure}


def predictions_title(run_name: str, predictions: SplitPredictions) -> str:
    """The title of a picture: whose predictions, and how many are right."""
    return (
        f"{run_name}, trial {predictions.trial}: {write_percent(predictions.accuracy)} %"
        f" of {len(predictions.labels):,} validation images"
    )


def class_name(of_class: str, most: int = 28) -> str:
    """A class for Matplotlib, in at most so many characters."""
    return picture_text(shortened(of_class, most))
