"""The images of each class as bars, the largest class first."""

from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from analysis.plot_style import OKABE_ITO
from analysis.plots.html_style import page_figure
from analysis.results.class_accuracy import Labels
from analysis.results.distribution import (
    distribution_numbers,
    distribution_picture,
    images_per_class,
)
from analysis.results.report_data import ReportData


def describe_distribution(data: ReportData) -> str:
    """The numbers of images and classes, for the page."""
    assert isinstance(data.labels, Labels)
    numbers = distribution_numbers(data.labels.labels, data.labels.classes)
    if numbers["min"] == numbers["max"]:
        each = f"{numbers['min']} of each"
        return f"{numbers['images']:,} images of {numbers['classes']} classes, {each}."
    return (
        f"{numbers['images']:,} images of {numbers['classes']} classes, from {numbers['min']} to"
        f" {numbers['max']} per class (mean {numbers['mean']:.1f}, standard deviation"
        f" {numbers['std']:.1f}, median {numbers['median']:g})."
    )


def draw_distribution_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw the bars with mean and median; nothing where the images are not here."""
    if not isinstance(data.labels, Labels):
        return []
    labels, classes = data.labels.labels, data.labels.classes
    path = folder / "distribution.png"
    return [distribution_picture(labels, classes, path, title=data.run.name)]


def draw_distribution_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw the bars with the mean; nothing where the images are not here."""
    if not isinstance(data.labels, Labels):
        return {}
    classes = data.labels.classes
    counts = images_per_class(data.labels.labels, classes)
    order = np.argsort(-counts, kind="stable").tolist()
    # Plotly would read tags of HTML in names.
    names = [escape(classes[index], quote=False) for index in order]
    figure = page_figure(height=360)
    figure.add_trace(
        go.Bar(
            x=names, y=counts[order],
            marker={"color": OKABE_ITO[5]}, hovertemplate="%{x}: %{y} images<extra></extra>",
        )
    )  # fmt: skip
    figure.add_hline(y=float(counts.mean()), line={"color": OKABE_ITO[1], "width": 1.5})
    figure.update_xaxes(type="category", tickangle=-60, showticklabels=len(classes) <= 60)
    figure.update_yaxes(title="images (line: the mean)")
    return {"distribution": figure}
