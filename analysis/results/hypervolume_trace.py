"""Hypervolume traces: how a run's front grew, and how fast searches of several seeds were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator
from rich.table import Table

from analysis.pareto.front import FloatArray, IntArray, pareto_front
from analysis.plot_style import OKABE_ITO, new_figure, save_picture, write_tick
from analysis.results.hypervolume_range import HypervolumeRange, ReferenceBox, reference_box
from analysis.runs import Run

_STYLES = ("-", "--", "-.", ":")
# Tables write longer times in hours.
_LONG_SECONDS = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HypervolumeTrace:
    """The steps in which a front grew; there is at least one."""

    finished: IntArray
    """(steps,), number of trials finished by then, rising."""
    seconds: FloatArray | None
    """(steps,), wall time of the search by then; None where a run did not record it."""
    hypervolumes: FloatArray
    """(steps,), share of `measured_in` that was dominated, 0 to 1, rising."""
    measured_in: ReferenceBox
    num_finished: int
    total_seconds: float | None
    """Wall time when the last trial finished."""


def hypervolume_trace(run: Run, wanted: HypervolumeRange | None = None) -> HypervolumeTrace:
    """Follow the hypervolume over a run's feasible trials, in the order in which they ended.

    All steps are measured in one box (`analysis.results.hypervolume_range`), around the front
    unless wanted says otherwise. Compare them with each other, not with another run. Raises
    UserError where no trial is feasible, and for a wanted range that does not fit the run.
    """
    finished = run.require_feasible()
    seconds = finished["search_seconds"].to_numpy(dtype=float)
    timed = bool(np.isfinite(seconds).all())
    order = np.argsort(seconds, kind="stable") if timed else np.arange(len(finished))
    losses = run.losses()
    box = reference_box([run], losses[pareto_front(losses)], wanted)
    front = np.empty((0, losses.shape[1]))
    counts, shares = [], []
    for count, row in enumerate(losses[order], start=1):
        if (front <= row).all(axis=1).any():
            continue
        front = np.vstack([front, row])
        front = front[pareto_front(front)]
        counts.append(count)
        shares.append(box.share(front))
    steps = np.array(counts, dtype=np.intp)
    return HypervolumeTrace(
        finished=steps,
        seconds=seconds[order][steps - 1] if timed else None,
        hypervolumes=np.array(shares),
        measured_in=box,
        num_finished=len(losses),
        total_seconds=float(seconds.max()) if timed else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeededTraces:
    """The hypervolume traces of one kind of search, run with several seeds."""

    name: str
    seconds: tuple[FloatArray, ...]
    """For each seed: (steps,), when the front grew, in rising order."""
    hypervolumes: tuple[FloatArray, ...]
    """For each seed: (steps,), the hypervolume from then on, 0 to 1."""

    def at(self, times: FloatArray) -> FloatArray:
        """(seeds, times): the hypervolume at these seconds; 0 before the first step."""
        rows = []
        for seconds, shares in zip(self.seconds, self.hypervolumes, strict=True):
            steps = np.searchsorted(seconds, times, side="right")
            rows.append(np.concatenate([[0.0], shares])[steps])
        return np.array(rows)

    def seconds_to(self, share: float) -> FloatArray:
        """(seeds,): seconds until the front had this share; infinite where it never did."""
        return np.array(
            [
                seconds[np.argmax(shares >= share)] if (shares >= share).any() else np.inf
                for seconds, shares in zip(self.seconds, self.hypervolumes, strict=True)
            ]
        )


def median_and_quartiles(values: FloatArray) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile; some values may be infinite."""
    ordered = np.sort(values)
    # Each is one of the values: infinity can't be interpolated.
    indices = [int(np.floor(share * (len(ordered) - 1) + 0.5)) for share in (0.25, 0.5, 0.75)]
    low, middle, high = (float(ordered[index]) for index in indices)
    return low, middle, high


def traces_table(
    traces: Sequence[SeededTraces], shares: Sequence[float], *, times_to: float = 0.95
) -> Table:
    """Time to each share of the hypervolume, median (quartiles), and how many seeds never had it.

    times_to: the share at which medians are compared with the first row's.
    """
    found = [[trace.seconds_to(share) for share in shares] for trace in traces]
    finite = [seconds[np.isfinite(seconds)].max(initial=0) for row in found for seconds in row]
    unit, factor = ("h", 3600.0) if max(finite, default=0) >= _LONG_SECONDS else ("s", 1.0)
    table = Table(box=None, title_justify="left", pad_edge=False)
    table.add_column("search")
    for share in shares:
        table.add_column(f"{unit} to {share:.0%}", justify="right")
    table.add_column("times", justify="right")
    table.add_column("never", justify="right")
    first = median_and_quartiles(traces[0].seconds_to(times_to))[1]
    for trace, row in zip(traces, found, strict=True):
        times = median_and_quartiles(trace.seconds_to(times_to))[1] / first
        never = ", ".join(str(int(np.isinf(seconds).sum())) for seconds in row)
        table.add_row(
            trace.name,
            *(_write(seconds / factor) for seconds in row),
            f"{times:.2f}" if np.isfinite(times) else "–",
            f"{never} of {len(trace.seconds)}",
        )
    return table


def budgets_table(traces: Sequence[SeededTraces], budgets: Mapping[str, float]) -> Table:
    """The share of the hypervolume in % after each budget of seconds, median (quartiles)."""
    table = Table(box=None, title_justify="left", pad_edge=False)
    table.add_column("search")
    for name, seconds in budgets.items():
        table.add_column(f"{name} ({seconds:,.0f} s)", justify="right")
    for trace in traces:
        shares = 100 * trace.at(np.array(list(budgets.values())))
        table.add_row(trace.name, *(_write(column, decimals=1) for column in shares.T))
    return table


def traces_picture(
    traces: Sequence[SeededTraces],
    path: Path,
    *,
    title: str,
    x_label: str = "simulated seconds",
) -> Path:
    """Draw hypervolume over time as a PNG at path, and return path.

    A line is the median over seeds, its band the quartiles. Seconds are drawn by magnitude.
    """
    times = _grid(traces)
    figure = new_figure(9, 5.6)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    for index, trace in enumerate(traces):
        color = OKABE_ITO[index % len(OKABE_ITO)]
        low, middle, high = np.percentile(100 * trace.at(times), [25, 50, 75], axis=0)
        axes.fill_between(times, low, high, step="post", color=color, alpha=0.15, lw=0)
        style = _STYLES[index // len(OKABE_ITO) % len(_STYLES)]
        axes.step(times, middle, where="post", color=color, lw=1.8, ls=style, label=trace.name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write_tick(value)))
    axes.set_xlim(times[0], times[-1])
    axes.set_ylim(0, 102)
    axes.set_xlabel(x_label)
    axes.set_ylabel("hypervolume (% of the recorded front's)")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    return save_picture(figure, path)


def _grid(traces: Sequence[SeededTraces]) -> FloatArray:
    seconds = np.concatenate([steps for trace in traces for steps in trace.seconds])
    seconds = seconds[seconds > 0]
    if not len(seconds):
        return np.array([0.1, 1.0])
    return np.geomspace(seconds.min() * 0.8, seconds.max() * 1.05, 400)


def _write(values: FloatArray, decimals: int | None = None) -> str:
    """Median (quartiles) of values; infinite ones are written as never."""
    low, middle, high = median_and_quartiles(values)
    if np.isinf(low):
        return "never"
    if decimals is None:
        decimals = 0 if middle >= 30 else 1

    def write(value: float) -> str:
        return f"{value:.{decimals}f}" if np.isfinite(value) else "never"

    return f"{write(middle)} ({write(low)}–{write(high)})"
