"""The confusion matrix of the chosen model on the validation split."""

from html import escape
from pathlib import Path

import plotly.graph_objects as go

from analysis.plot_style import OKABE_ITO, save_picture, titled_figure
from analysis.plots.classes import class_name, predictions_title
from analysis.plots.html_style import page_figure
from analysis.results.class_accuracy import SplitPredictions, confusion_matrix
from analysis.results.distribution import shortened
from analysis.results.report_data import ReportData

# Of more classes, those with most mistakes are drawn: cells of a few pixels tell nothing.
_MOST_CLASSES = 50
_NAME_CHARACTERS = 22


def describe_confusion(data: ReportData) -> str:
    """How to read the matrix, for the page."""
    assert isinstance(data.predictions, SplitPredictions)
    classes = len(data.predictions.classes)
    these = (
        f"The {_MOST_CLASSES} of {classes:,} classes with most mistakes. "
        if classes > _MOST_CLASSES
        else ""
    )
    return (
        f"{these}A row is a true class, a column what the model took it for; the colour is the"
        " share of the row's images. Right answers lie on the diagonal."
    )


def draw_confusion_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw the matrix; nothing where the model's predictions are not known."""
    predictions = data.predictions
    if not isinstance(predictions, SplitPredictions):
        return []
    matrix = confusion_matrix(predictions, most=_MOST_CLASSES)
    count = len(matrix.classes)
    title = predictions_title(data.run.name, predictions)
    side = 3.0 + 0.19 * max(count, 8)
    figure = titled_figure(side + 1, side, title)
    axes = figure.add_subplot()
    drawn = axes.imshow(100 * matrix.shares, cmap="Blues", vmin=0, vmax=100)
    names = [class_name(name, _NAME_CHARACTERS) for name in matrix.classes]
    axes.set_xticks(range(count), names, rotation=90, fontsize=7)
    axes.set_yticks(range(count), names, fontsize=7)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if count <= 30:
        for row, column in zip(*matrix.images.nonzero(), strict=True):
            colour = "white" if matrix.shares[row, column] > 0.55 else "#222222"
            axes.text(column, row, str(matrix.images[row, column]), ha="center", va="center",
                      fontsize=6.5, color=colour)  # fmt: skip
    figure.colorbar(drawn, ax=axes, label="% of the class's images", pad=0.01, fraction=0.03)
    return [save_picture(figure, folder / "confusion.png")]


def draw_confusion_html(data: ReportData) -> dict[str, go.Figure]:
    """Draw the matrix; nothing where the model's predictions are not known."""
    if not isinstance(data.predictions, SplitPredictions):
        return {}
    matrix = confusion_matrix(data.predictions, most=_MOST_CLASSES)
    count = len(matrix.classes)
    # Plotly would read tags of HTML in names.
    names = [escape(shortened(name, _NAME_CHARACTERS), quote=False) for name in matrix.classes]
    # By number, since two shortened names may be equal.
    places = list(range(count))
    figure = page_figure(height=190 + 19 * max(count, 8))
    figure.add_trace(
        go.Heatmap(
            x=places, y=places, z=(100 * matrix.shares).round(2).tolist(), zmin=0, zmax=100,
            # From nothing to blue, so that it suits a light and a dark page; one image in fifty is
            # seen on both.
            colorscale=[
                [0, "rgba(86,180,233,0)"], [0.02, "rgba(86,180,233,0.3)"],
                [0.5, "rgba(43,147,206,0.9)"], [1, OKABE_ITO[0]],
            ],
            text=[
                [f"{names[row]} → {names[column]}: {matrix.images[row, column]} images"
                 for column in places] for row in places
            ],
            hovertemplate="%{text}, %{z:.1f} % of the class<extra></extra>",
            colorbar={"title": {"text": "% of the class's images", "side": "right"},
                      "thickness": 12, "outlinewidth": 0},
            xgap=1, ygap=1,
        )
    )  # fmt: skip
    axis = {"tickvals": places, "ticktext": names, "tickfont": {"size": 10}, "showgrid": False}
    figure.update_xaxes({**axis, "tickangle": -90})
    figure.update_yaxes({**axis, "autorange": "reversed"})
    # The page reads how wide it has to be.
    figure.update_layout(meta={"width": 240 + 19 * max(count, 8)})
    return {"confusion": figure}
