"""An ablation as a picture: every seed of every recipe, from the starting point to the whole."""

from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.plot_style import GREY, OKABE_ITO, metric_axis, save_picture, tidy, titled_figure
from analysis.results.ablation import Ablation, AblationRun
from analysis.results.ablation_table import CHANGE, WITHIN, write_change
from analysis.results.report_data import ReportData

_STEP, _WITHOUT = OKABE_ITO[0], OKABE_ITO[1]
_ROW_INCHES = 0.42
_LABEL_WIDTH = 36  # characters


def draw_ablations_png(data: ReportData, folder: Path) -> list[Path]:
    """Draw a picture for each ablation of the run."""
    return [
        ablation_picture(one, folder / f"ablation-{one.trial}-against-{one.against}.png")
        for one in data.ablations
    ]


def ablation_picture(ablation: Ablation, path: Path) -> Path:
    """Draw an ablation as a PNG at path, and return path.

    A row for each recipe: small marks are seeds, the large mark is their mean, the bar their
    standard deviation. At the right stands the change: above the line against the row before, below
    it against the whole recipe.
    """
    rows = ablation.rows
    title = f"{ablation.run}: trial {ablation.trial} against {ablation.against},"
    title += f" {ablation.num_seeds} seeds of {ablation.full.epochs} epochs"
    figure = titled_figure(9, 1.5 + _ROW_INCHES * len(rows), title)
    axes = figure.add_subplot()
    for index, row in enumerate(rows):
        _draw_row(axes, ablation, row, index)
    if len(rows) > len(ablation.cumulative):
        axes.axhline(len(ablation.cumulative) - 0.5, color="#bbbbbb", lw=0.8)
    axes.set_yticks(range(len(rows)), [_words(ablation, row) for row in rows], fontsize=8.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.set_xlabel(f"{metric_axis(ablation.metric)}, of {ablation.num_images:,} images")
    tidy(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return save_picture(figure, path)


def _draw_row(axes: Axes, ablation: Ablation, row: AblationRun, index: int) -> None:
    colour = _WITHOUT if row.role == "without" else _STEP
    percents = 100 * row.accuracies
    axes.scatter(percents, [index] * len(percents), s=16, c=colour, alpha=0.45, linewidths=0)
    if row.mean is not None:
        axes.errorbar(
            100 * row.mean, index, xerr=100 * (row.spread or 0.0), fmt="s" if all(row.on) else "o",
            ms=7, mec="white", mew=0.8, color=colour, elinewidth=1.6, zorder=3,
        )  # fmt: skip
    change = ablation.change(row)
    message, colour = write_change(change), "#222222"
    if row.difference is None:
        message, colour = CHANGE, GREY
    if change is not None and change.holds_zero:
        message, colour = f"{message}, {WITHIN}", GREY
    # Right of the axes, so that it covers no mark.
    axes.text(1.02, index, message, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5,
              color=colour)  # fmt: skip


def _words(ablation: Ablation, row: AblationRun) -> str:
    words = ablation.row_label(row)
    if row.difference is not None and row.role == "step":
        whole = f" = trial {ablation.trial}" if all(row.on) else ""
        words = f"+ {ablation.label(row.difference)}{whole}"
    return fill(words, _LABEL_WIDTH, break_long_words=False)
