"""The front as a PNG file: the metric against cost, with every trial behind it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from analysis.pareto.front import FloatArray
from analysis.plot_style import (
    GREY,
    accuracy_range,
    axis_title,
    mark_label,
    metric_axis,
    model_styles,
    new_figure,
    picture_title,
    save_picture,
    set_cost_scale,
    tidy,
)
from analysis.runs import Run


def front_picture(run: Run, path: Path) -> Path:
    """Draw the metric (%) against the first cost of the run as a PNG at path, and return path.

    The front is a step line through large labelled marks. Each model has a shape and a colour.
    Dominated trials are faint and int8 models are hollow. A trial that was stopped early is a cross
    at the metric that it had reached. Trials far below the front are left out and
    counted. A label is left out where it would cover another label or a
    mark of the front. Raises UserError where no trial is finished.
    """
    front = run.front()
    figure = new_figure(9, 5.6)
    axes = figure.add_subplot()
    axes.set_title(picture_title(run), loc="left", fontsize=11)
    cost = run.costs[0]
    axes.set_xlabel(axis_title(cost))
    axes.set_ylabel(metric_axis(run.metric))
    draw_front(axes, run, front)
    figure.canvas.draw()  # places the labels' boxes
    label_front(axes, front, cost, run.metric)
    return save_picture(figure, path)


def draw_front(axes: Axes, run: Run, front: pd.DataFrame) -> None:
    """Draw the marks and the step line of a run's front on axes, with a legend."""
    cost, metric = run.costs[0], run.metric
    finished = run.finished
    pruned = run.stopped.dropna(subset=[cost])
    set_cost_scale(axes, np.concatenate([finished[cost].to_numpy(), pruned[cost].to_numpy()]))
    axes.scatter(
        pruned[cost], 100 * pruned[metric], marker="x", s=22, lw=0.9, c=GREY, alpha=0.6,
        label="stopped early" if len(pruned) else None, zorder=1,
    )  # fmt: skip
    # The front is not sorted by a cost that is no objective; the line needs it sorted.
    steps = front.sort_values([cost, metric])
    if len(run.objectives) == 2:
        axes.step(
            steps[cost], 100 * steps[metric], where="post", c="#444444", lw=1.2, zorder=2,
            label="front",
        )  # fmt: skip
    behind = finished.loc[~finished["trial"].isin(front["trial"])]
    for model, (colour, marker) in model_styles(finished).items():
        dominated = behind.loc[behind["model"] == model]
        axes.scatter(
            dominated[cost], 100 * dominated[metric], marker=marker, s=26, alpha=0.28,
            facecolors=_fills(dominated, colour), edgecolors=colour, linewidths=0.8, zorder=3,
        )  # fmt: skip
        best = front.loc[front["model"] == model]
        axes.scatter(
            best[cost], 100 * best[metric], marker=marker, s=78, zorder=4,
            facecolors=_fills(best, colour), edgecolors=colour, linewidths=1.6,
        )  # fmt: skip
        # The legend gets its own filled mark, because the model's first mark may be hollow.
        axes.scatter([], [], marker=marker, s=78, c=colour, label=model)
    if finished["qat"].to_numpy(dtype=bool).any():
        axes.scatter([], [], marker="o", s=60, facecolors="white", edgecolors=GREY, label="int8")
    every = np.concatenate([finished[metric], pruned[metric]]).astype(float)
    low, high = accuracy_range(front[metric].to_numpy(dtype=float), every)
    axes.set_ylim(low, high)
    below = int((100 * every < low).sum())
    if below:
        trials = "1 trial" if below == 1 else f"{below:,} trials"
        axes.text(
            0.99, 0.012, f"{trials} below {low:.0f} % left out", transform=axes.transAxes,
            ha="right", va="bottom", fontsize=8, color=GREY,
            path_effects=[withStroke(linewidth=3, foreground="w")],
        )  # fmt: skip
    tidy(axes)
    # Beside the axes, where it covers no mark.
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8.5,
        title="faint: dominated" if len(behind) else None, title_fontsize=8.5, alignment="left",
    )  # fmt: skip


def _fills(rows: pd.DataFrame, colour: str) -> list[str]:
    """The inside of marks: white where the model is int8."""
    return ["white" if qat else colour for qat in rows["qat"]]


def label_front(axes: Axes, front: pd.DataFrame, cost: str, metric: str) -> None:
    """Write `mark_label` beside the marks of the front, where it fits.

    The axes must have been drawn once. The ends of the front are labelled first.
    """
    renderer = axes.figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
    marks = axes.transData.transform(front[[cost, metric]].to_numpy(dtype=float) * [1.0, 100.0])
    inside = axes.get_window_extent(renderer)
    taken: list[Bbox] = []
    indices = list(range(len(front)))
    for index in [*indices[:1], *indices[:0:-1]]:
        row = front.iloc[index]
        for offset, ha, va in _OFFSETS:
            label = axes.annotate(
                mark_label(row), (row[cost], 100 * row[metric]),
                xytext=offset, textcoords="offset points", ha=ha, va=va, fontsize=8,
                color="#222222", zorder=5, path_effects=[withStroke(linewidth=2.5, foreground="w")],
            )  # fmt: skip
            box = label.get_window_extent(renderer)
            clear = _is_inside(box, inside) and not any(box.overlaps(other) for other in taken)
            if clear and _is_nearest(box, marks, index):
                taken.append(box)
                break
            label.remove()


def _is_nearest(box: Bbox, marks: FloatArray, index: int) -> bool:
    """Tell whether a label at box is clearly nearest to its own mark, and covers no other."""
    outside = np.maximum(np.maximum([box.x0, box.y0] - marks, marks - [box.x1, box.y1]), 0)
    distances = np.hypot(*outside.T)
    others = np.delete(distances, index)
    # Equal marks share one label. Distances are in pixels.
    elsewhere = others[(np.delete(marks, index, axis=0) != marks[index]).any(axis=1)]
    return bool((elsewhere > distances[index] + 6).all())


_OFFSETS: tuple[tuple[tuple[int, int], Any, Any], ...] = (
    ((-7, 6), "right", "bottom"),
    ((8, -5), "left", "top"),
    ((0, 9), "center", "bottom"),
    ((0, -9), "center", "top"),
    ((9, 0), "left", "center"),
    ((-9, 0), "right", "center"),
)


def _is_inside(box: Bbox, of: Bbox) -> bool:
    return bool(of.x0 <= box.x0 and box.x1 <= of.x1 and of.y0 <= box.y0 and box.y1 <= of.y1)
