"""Confirmed candidates as a picture: the front with its uncertainty, and what was promised."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

from analysis.columns import heading
from analysis.pareto.front import FloatArray
from analysis.plot_style import (
    OKABE_ITO,
    axis_title,
    new_figure,
    picture_text,
    save_picture,
    set_cost_scale,
    spans_magnitudes,
    tidy,
)
from analysis.results.confirmation import Confirmation

_FRONT, _PROMISED = OKABE_ITO[0], OKABE_ITO[1]


def confirmation_picture(confirmation: Confirmation, path: Path) -> Path:
    """Draw the test metric (%) against the first cost as a PNG at path, and return path.

    Each candidate is a mark with its 95 % interval as a bar. A hollow mark shows the metric that
    the search had promised. The band holds the fronts of 95 % of the draws, and the line is their
    median (attainment surfaces).
    """
    cost, costs = confirmation.run.costs[0], confirmation.costs
    figure = new_figure(9, 5.6)
    axes = figure.add_subplot()
    axes.set_title(
        f"{confirmation.run.name}: {len(costs)} of the front's trials, each trained again with"
        f" {confirmation.num_seeds} seeds",
        loc="left", fontsize=11,
    )  # fmt: skip
    set_cost_scale(axes, costs)
    axes.set_xlim(with_margin(costs))  # the band goes on beyond the last cost
    _draw_band(axes, confirmation)
    _draw_candidates(axes, confirmation)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -2.0), min(high, 102.0))
    axes.set_xlabel(axis_title(cost))
    axes.set_ylabel(picture_text(heading(confirmation.run.metric)))
    tidy(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8.5)
    return save_picture(figure, path)


def _draw_band(axes: Axes, confirmation: Confirmation) -> None:
    indices, surfaces = confirmation.band
    best, middle, worst = 100 * surfaces
    end = axes.get_xlim()[1]
    steps = [*indices, end]
    axes.fill_between(
        steps, [*worst, worst[-1]], [*best, best[-1]], step="post", color=_FRONT, alpha=0.15, lw=0,
        label="front of 95 % of the draws",
    )  # fmt: skip
    axes.step(steps, [*middle, middle[-1]], where="post", color="#444444", lw=1.2,
              label="median front")  # fmt: skip
    axes.set_xlim(right=end)


def _draw_candidates(axes: Axes, confirmation: Confirmation) -> None:
    costs, found = confirmation.costs, confirmation.accuracies
    means = 100 * np.array([accuracy.mean for accuracy in found])
    below = means - 100 * np.array([accuracy.low for accuracy in found])
    above = 100 * np.array([accuracy.high for accuracy in found]) - means
    axes.errorbar(
        costs, means, yerr=np.array([below, above]), fmt="o", ms=7, mec="white", mew=0.8,
        color=_FRONT, elinewidth=1.6, capsize=3, zorder=4, label="test, 95 % interval",
    )  # fmt: skip
    # Drawn beside the test's mark, which has the same cost.
    beside = ScaledTranslation(-9 / 72, 0, axes.figure.dpi_scale_trans)
    axes.scatter(
        costs, [100 * candidate.promised for candidate in confirmation.candidates], marker="D",
        s=38, facecolors="none", edgecolors=_PROMISED, linewidths=1.5, zorder=5,
        label="search's validation", transform=axes.transData + beside,
    )  # fmt: skip
    for candidate, x, y in zip(confirmation.candidates, costs, means - below, strict=True):
        axes.annotate(
            f"trial {candidate.trial}", (x, y), xytext=(0, -4), textcoords="offset points",
            ha="center", va="top", fontsize=8, color="#222222", zorder=6,
            path_effects=[withStroke(linewidth=2.5, foreground="w")],
        )  # fmt: skip


def with_margin(costs: FloatArray) -> tuple[float, float]:
    """The ends of an axis that leaves a margin beside the lowest and the highest cost."""
    low, high = float(costs.min()), float(costs.max())
    if spans_magnitudes(costs):
        margin = (high / low) ** 0.08
        return low / margin, high * margin
    margin = 0.08 * (high - low) or 0.1 * high or 0.1
    return low - margin, high + margin
