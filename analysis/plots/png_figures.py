"""More of a run as PNG pictures: its history, learning curves, importances, settings, classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from analysis.columns import heading, write_percent
from analysis.plot_style import (
    OKABE_ITO,
    new_figure,
    picture_title,
    save_picture,
    tidy,
)
from analysis.plots.ablation_picture import ablation_picture
from analysis.plots.confirmation_picture import confirmation_picture
from analysis.plots.front_picture import front_picture
from analysis.results.class_accuracy import Labels, SplitPredictions, class_accuracies, confusions
from analysis.results.curves import Curve
from analysis.results.distribution import distribution_picture, shortened
from analysis.results.hypervolume_trace import HypervolumeTrace
from analysis.results.importances import by_importance
from analysis.results.parallel import Scale
from analysis.results.report_data import ReportData
from spaces.columns import ACCURACY
from spaces.errors import UserError

# Beyond so many lines nothing is seen but the last ones; some are then drawn, evenly chosen.
_MOST_LINES = 1500
_MOST_CLASSES = 60
_MOST_CONFUSIONS = 15


def write_pictures(report_data: ReportData, folder: Path) -> list[Path]:
    """Draw all of a run that a report shows as PNG files in folder, and return their paths.

    Raises UserError where nothing can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't write {folder}: {error.strerror or error}") from None
    run, predictions, data = report_data.run, report_data.predictions, report_data.data
    title = picture_title(run)
    drawn = [
        front_picture(run, folder / "front.png"),
        hypervolume_picture(report_data.history, folder / "history.png", title=title),
        parallel_picture(report_data.scales, folder / "parallel.png", title=title),
    ]
    if report_data.curves:
        drawn.append(curves_picture(report_data.curves, folder / "curves.png", title=title))
    if report_data.importances:
        path = folder / "importances.png"
        drawn.append(importances_picture(report_data.importances, path, title=title))
    if isinstance(predictions, SplitPredictions):
        message = f"{run.name}, trial {predictions.trial}: {write_percent(predictions.accuracy)} %"
        message += f" of {len(predictions.labels):,} validation images"
        drawn.append(classes_picture(predictions, folder / "classes.png", title=message))
    if isinstance(data, Labels):
        path = folder / "distribution.png"
        drawn.append(distribution_picture(data.labels, data.classes, path, title=run.name))
    if report_data.confirmation:
        drawn.append(confirmation_picture(report_data.confirmation, folder / "confirmed.png"))
    for ablation in report_data.ablations:
        path = folder / f"ablation-{ablation.trial}-against-{ablation.against}.png"
        drawn.append(ablation_picture(ablation, path))
    return drawn


def hypervolume_picture(history: HypervolumeTrace, path: Path, *, title: str = "") -> Path:
    """Draw the hypervolume over finished trials and, where known, over time; return path."""
    timed = history.seconds is not None
    figure = _figure(9, 3.8, title)
    panels = figure.subplots(1, 2 if timed else 1, squeeze=False, sharey=True)[0]
    ends: list[tuple[Axes, np.ndarray, float, str]] = [
        (panels[0], history.finished, history.num_finished, "finished trials")
    ]
    if history.seconds is not None and history.total_seconds is not None:
        minutes = history.seconds / 60
        ends.append((panels[1], minutes, history.total_seconds / 60, "minutes of the search"))
    for axes, x, end, label in ends:
        shares = np.append(history.hypervolumes, history.hypervolumes[-1])
        axes.step(np.append(x, end), 100 * shares, where="post", color=OKABE_ITO[0], lw=2)
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        tidy(axes)
    panels[0].set_ylabel("hypervolume (% of the box)")
    panels[0].set_ylim(bottom=0)
    return save_picture(figure, path)


def curves_picture(curves: list[Curve], path: Path, *, title: str = "") -> Path:
    """Draw accuracy (%) and loss over epochs, validation solid, training dotted; return path."""
    figure = _figure(9, 4.4, title)
    left, right = figure.subplots(1, 2)
    for curve in curves:
        style = {"color": curve.colour, "lw": 1.8}
        left.plot(curve.epoch, 100 * curve.accuracy, marker=".", label=curve.label, **style)
        left.plot(curve.epoch, 100 * curve.train_accuracy, ls=":", **style)
        right.plot(curve.epoch, curve.val_loss, marker=".", **style)
        right.plot(curve.epoch, curve.train_loss, ls=":", **style)
    for axes, label in ((left, "accuracy (%)"), (right, "loss (cross-entropy)")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False,
        fontsize=8.5, title="solid: validation, dotted: training", title_fontsize=8.5,
    )  # fmt: skip
    return save_picture(figure, path)


def importances_picture(
    importances: Mapping[str, Mapping[str, float]], path: Path, *, title: str = ""
) -> Path:
    """Draw how much each field decides each objective, in %; return path."""
    fields = by_importance(importances)
    figure = _figure(9, 1.4 + 0.36 * len(fields), title)
    panels = figure.subplots(1, len(importances), sharey=True, squeeze=False)[0]
    for index, (axes, (objective, shares)) in enumerate(
        zip(panels, importances.items(), strict=True)
    ):
        widths = [100 * shares.get(field, 0.0) for field in fields]
        axes.barh(range(len(fields)), widths, color=OKABE_ITO[index % len(OKABE_ITO)])
        axes.set_title(f"for {heading(objective).removesuffix(' (%)')}", loc="left", fontsize=10)
        axes.set_yticks(range(len(fields)), [field.replace("_", " ") for field in fields])
        axes.set_xlabel("importance (%)")
        tidy(axes)
    panels[0].invert_yaxis()
    return save_picture(figure, path)


def parallel_picture(scales: list[Scale], path: Path, *, title: str = "") -> Path:
    """Draw a line for each finished trial across its settings; the colour is its accuracy."""
    figure = _figure(max(9.0, 1.25 * len(scales)), 4.6, title)
    axes = figure.add_subplot()
    heights = np.array(
        [(scale.positions - scale.ends[0]) / (scale.ends[1] - scale.ends[0]) for scale in scales]
    ).T
    accuracy = next(scale for scale in scales if scale.column == ACCURACY)
    order = np.argsort(accuracy.positions, kind="stable")  # the best on top
    if len(order) > _MOST_LINES:
        order = order[np.linspace(0, len(order) - 1, _MOST_LINES).astype(int)]
    across = np.arange(len(scales), dtype=float)
    lines = LineCollection(
        [np.column_stack([across, row]) for row in heights[order]],
        array=100 * accuracy.positions[order], cmap="cividis", alpha=0.6, lw=1,
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
    titles = [scale.title.replace(" ", "\n", 1) for scale in scales]
    axes.set_xticks(across, titles, fontsize=8.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    figure.colorbar(lines, ax=axes, label="accuracy (%)", pad=0.01, fraction=0.03)
    return save_picture(figure, path)


def classes_picture(predictions: SplitPredictions, path: Path, *, title: str = "") -> Path:
    """Draw the accuracy (%) of each class, and the pairs that are confused most; return path.

    Of more than 60 classes the 60 worst.
    """
    table = class_accuracies(predictions).head(_MOST_CLASSES)
    pairs = confusions(predictions).head(_MOST_CONFUSIONS)
    figure = _figure(11, 1.6 + 0.2 * max(len(table), len(pairs), 8), title)
    left, right = figure.subplots(1, 2)
    left.barh(range(len(table)), 100 * table["accuracy"], color=OKABE_ITO[5])
    left.set_yticks(range(len(table)), [_name(name) for name in table["class"]], fontsize=8)
    left.set_xlabel("accuracy (%)")
    left.set_xlim(0, 100)
    named = [
        f"{_name(true)} → {_name(other)}"
        for true, other in zip(pairs["class"], pairs["taken_for"], strict=True)
    ]
    right.barh(range(len(pairs)), pairs["images"], color=OKABE_ITO[1])
    right.set_yticks(range(len(pairs)), named, fontsize=8)
    right.set_xlabel("validation images taken for the other class")
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.invert_yaxis()
        tidy(axes)
    return save_picture(figure, path)


def _name(of_class: str) -> str:
    # Class names are folder names: a dollar sign in them is no formula.
    return shortened(of_class, 28).replace("$", r"\$")


def _figure(width: float, height: float, title: str) -> Figure:
    figure = new_figure(width, height)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure
