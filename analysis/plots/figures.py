"""The report's figures: one list, which the page and the PNG files follow.

To add a figure, write a module beside this one with a function that draws it by Matplotlib, and add
a Figure to FIGURES. The page then shows the PNG file. A second function may draw it by Plotly, or
as images with words; the page then shows that. A template analysis/report/page/sections/NAME.html
may add tables and controls to it; it extends figure.html.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go

from analysis.plots.ablation_picture import draw_ablations_png
from analysis.plots.calibration import (
    describe_calibration,
    draw_calibration_html,
    draw_calibration_png,
)
from analysis.plots.classes import describe_classes, draw_classes_html, draw_classes_png
from analysis.plots.confirmation import (
    describe_confirmation,
    draw_confirmation_html,
    draw_confirmation_png,
)
from analysis.plots.confusion import (
    describe_confusion,
    draw_confusion_html,
    draw_confusion_png,
)
from analysis.plots.distribution import (
    describe_distribution,
    draw_distribution_html,
    draw_distribution_png,
)
from analysis.plots.front import describe_front, draw_front_html, draw_front_png
from analysis.plots.hypervolume import draw_hypervolume_html, draw_hypervolume_png
from analysis.plots.image_sheets import (
    Strip,
    describe_samples,
    draw_mistakes_png,
    draw_mistakes_strips,
    draw_samples_png,
    draw_samples_strips,
)
from analysis.plots.importances import draw_importances_html, draw_importances_png
from analysis.plots.learning_curves import draw_curves_html, draw_curves_png
from analysis.plots.parallel_coordinates import draw_parallel_html, draw_parallel_png
from analysis.plots.time_spent import describe_time, draw_time_html, draw_time_png
from analysis.results.importances import FEWEST_TRIALS
from analysis.results.report_data import ReportData
from spaces.errors import UserError

Text = str | Callable[[ReportData], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of the report: a section of the page, or a part of one, and PNG files."""

    name: str
    """Unique. Stems of its PNG files and ids of its elements are this, or this-SOMETHING."""
    title: str
    """Its heading on the page; not repeated where the figure above has the same."""
    draw_png: Callable[[ReportData, Path], list[Path]]
    """Write its PNG files to a folder and return their paths; none where its data is missing."""
    draw_html: Callable[[ReportData], dict[str, go.Figure]] | None = None
    """Draw it for the page, by element id; nothing where its data is missing.

    Without this function or the next, the page shows the PNG files.
    """
    draw_strips: Callable[[ReportData], list[Strip]] | None = None
    """Draw it for the page as images with words; nothing where its data is missing."""
    text: Text | None = None
    """What the page says above the figure."""
    missing: Text | None = None
    """What the page says where the data is missing; without it, the page leaves the figure out."""


def _no_importances(data: ReportData) -> str:
    if not isinstance(data.run.study.get("space"), dict):
        return "Importances are unavailable: this run's study.yaml does not hold its space."
    return f"Importances are shown once there are {FEWEST_TRIALS} trials."


FIGURES: list[Figure] = [
    Figure(
        name="front",
        title="The front",
        text=describe_front,
        draw_png=draw_front_png,
        draw_html=draw_front_html,
    ),
    Figure(
        name="confirmed",
        title="Is the front as good as it looks?",
        text=describe_confirmation,
        draw_png=draw_confirmation_png,
        draw_html=draw_confirmation_html,
    ),
    Figure(
        name="ablation",
        title="Which of the changes made it good",
        draw_png=draw_ablations_png,
    ),
    Figure(
        name="history",
        title="How the front grew",
        text="The hypervolume is the share that the front dominates of the metrics and costs that"
        " the axis names, with costs on a log scale.",
        draw_png=draw_hypervolume_png,
        draw_html=draw_hypervolume_html,
    ),
    Figure(
        name="calibration",
        title="Did trials end as expected?",
        text=describe_calibration,
        draw_png=draw_calibration_png,
        draw_html=draw_calibration_html,
    ),
    Figure(
        name="curves",
        title="Learning curves of the front",
        text="Solid lines are validation, dotted lines training. Losses have the colours of the"
        " metric.",
        missing="No trial of the front has epochs of its own in this run.",
        draw_png=draw_curves_png,
        draw_html=draw_curves_html,
    ),
    Figure(
        name="importances",
        title="What mattered",
        text="How much a field's values in the best tenth of the trials (at least ten trials)"
        " differ from its values in all trials, stopped ones included (PED-ANOVA). A cost is told"
        " from the fields that can change it alone. This tells what"
        " set the best trials apart here, not what would help elsewhere.",
        missing=_no_importances,
        draw_png=draw_importances_png,
        draw_html=draw_importances_html,
    ),
    Figure(
        name="parallel",
        title="What mattered",
        text="Every finished trial is a line. Drag along an axis to keep only the lines that cross"
        " it there.",
        draw_png=draw_parallel_png,
        draw_html=draw_parallel_html,
    ),
    Figure(
        name="classes",
        title="The chosen model, class by class",
        text=describe_classes,
        missing=lambda data: str(data.predictions),
        draw_png=draw_classes_png,
        draw_html=draw_classes_html,
    ),
    Figure(
        name="confusion",
        title="Which classes it confuses",
        text=describe_confusion,
        draw_png=draw_confusion_png,
        draw_html=draw_confusion_html,
    ),
    Figure(
        name="mistakes",
        title="What it is sure and wrong about",
        text="The validation images to which the chosen model gives a wrong class with the highest"
        " probability. Look for wrong labels here first.",
        draw_png=draw_mistakes_png,
        draw_strips=draw_mistakes_strips,
    ),
    Figure(
        name="distribution",
        title="The data",
        text=describe_distribution,
        missing=lambda data: str(data.labels),
        draw_png=draw_distribution_png,
        draw_html=draw_distribution_html,
    ),
    Figure(
        name="samples",
        title="What the classes look like",
        text=describe_samples,
        draw_png=draw_samples_png,
        draw_strips=draw_samples_strips,
    ),
    Figure(
        name="time",
        title="Where the time went",
        text=describe_time,
        missing="This run did not record how long its trials took.",
        draw_png=draw_time_png,
        draw_html=draw_time_html,
    ),
]


def write_pictures(
    data: ReportData, folder: Path, *, figures: Sequence[Figure] = FIGURES
) -> list[Path]:
    """Write every figure whose data is there as PNG files to folder, and return their paths.

    Raises UserError where nothing can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror or error}") from None
    return [path for figure in figures for path in figure.draw_png(data, folder)]
