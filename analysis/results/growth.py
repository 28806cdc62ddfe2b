"""How fast fronts grow: hypervolume over time of searches that were run with several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator
from rich.table import Table

from analysis.pareto.front import FloatArray
from analysis.plot_style import OKABE_ITO, new_figure, save_picture, write_tick

_STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One way to search, run with several seeds."""

    name: str
    seconds: tuple[FloatArray, ...]
    """For each seed: (steps,), when the front grew, in rising order."""
    hypervolumes: tuple[FloatArray, ...]
    """For each seed: (steps,), what it came to, as a share of 1."""

    def at(self, times: FloatArray) -> FloatArray:
        """(seeds, times): the hypervolume at these seconds; 0 before the first step."""
        rows = []
        for seconds, shares in zip(self.seconds, self.hypervolumes, strict=True):
            steps = np.searchsorted(seconds, times, side="right")
            rows.append(np.concatenate([[0.0], shares])[steps])
        return np.array(rows)

    def seconds_to(self, share: float) -> FloatArray:
        """(seeds,): seconds until the front had this share; infinite where it never had."""
        return np.array(
            [
                seconds[np.argmax(shares >= share)] if (shares >= share).any() else np.inf
                for seconds, shares in zip(self.seconds, self.hypervolumes, strict=True)
            ]
        )


def median_and_quartiles(seconds: FloatArray) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of seconds, of which some may be infinite."""
    ordered = np.sort(seconds)
    # Of values that were there: between a number and infinity nothing can be interpolated.
    places = [int(np.floor(share * (len(ordered) - 1) + 0.5)) for share in (0.25, 0.5, 0.75)]
    low, middle, high = (float(ordered[place]) for place in places)
    return low, middle, high


def growth_table(growths: Sequence[Growth], shares: Sequence[float]) -> Table:
    """Seconds to each share of the hypervolume: median (quartiles), beside the first row's."""
    table = Table(box=None, title_justify="left", pad_edge=False)
    table.add_column("search")
    for share in shares:
        table.add_column(f"s to {share:.0%}", justify="right")
    table.add_column(f"times to {shares[-1]:.0%}", justify="right")
    table.add_column("never", justify="right")
    first = median_and_quartiles(growths[0].seconds_to(shares[-1]))[1]
    for growth in growths:
        cells = [_write(growth.seconds_to(share)) for share in shares]
        reached = growth.seconds_to(shares[-1])
        times = median_and_quartiles(reached)[1] / first
        never = int(np.isinf(reached).sum())
        told = f"{times:.2f}" if np.isfinite(times) else "–"
        table.add_row(growth.name, *cells, told, f"{never} of {len(reached)}")
    return table


def growth_picture(growths: Sequence[Growth], path: Path, *, title: str) -> Path:
    """Draw hypervolume over time as a PNG at path, and return path.

    A line is the median over seeds, the band beside it the quartiles; seconds by magnitude.
    """
    times = _grid(growths)
    figure = new_figure(9, 5.6)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    for place, growth in enumerate(growths):
        color = OKABE_ITO[place % len(OKABE_ITO)]
        low, middle, high = np.percentile(100 * growth.at(times), [25, 50, 75], axis=0)
        axes.fill_between(times, low, high, step="post", color=color, alpha=0.15, lw=0)
        style = _STYLES[place // len(OKABE_ITO) % len(_STYLES)]
        axes.step(times, middle, where="post", color=color, lw=1.8, ls=style, label=growth.name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write_tick(value)))
    axes.set_xlim(times[0], times[-1])
    axes.set_ylim(0, 102)
    axes.set_xlabel("simulated seconds")
    axes.set_ylabel("hypervolume (% of the recorded front's)")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    return save_picture(figure, path)


def _grid(growths: Sequence[Growth]) -> FloatArray:
    seconds = np.concatenate([steps for growth in growths for steps in growth.seconds])
    seconds = seconds[seconds > 0]
    if not len(seconds):
        return np.array([0.1, 1.0])
    return np.geomspace(seconds.min() * 0.8, seconds.max() * 1.05, 400)


def _write(seconds: FloatArray) -> str:
    low, middle, high = median_and_quartiles(seconds)
    told = [f"{value:.0f}" if np.isfinite(value) else "never" for value in (low, middle, high)]
    return f"{told[1]} ({told[0]} to {told[2]})"
