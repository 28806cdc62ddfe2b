"""Draws docs/gain.png: what a search by gain per second knows at one moment, and what it does next.

    python benchmarks/gain_picture.py [--out docs/gain.png]

The moment is of a replay of benchmarks/curves with 4 workers, seed 0: the first at which three
trials are complete, six are paused, and three run past their first epoch.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from analysis.pareto.front import pareto_front
from analysis.plot_style import GREY, OKABE_ITO, save_picture, tidy, titled_figure
from search.decisions.budget import Budget
from search.decisions.gain.index import Outlook
from search.decisions.gain.rule import ENOUGH
from search.decisions.ledger import Ledger
from search.simulation.reading import read_benchmark
from search.simulation.simulator import SimulationSettings, simulate

NUM_BARS = 12
BLUE, ORANGE, GREEN = OKABE_ITO[0], OKABE_ITO[1], OKABE_ITO[2]


@dataclass(frozen=True, kw_only=True)
class Open:
    """A trial that is running or paused."""

    number: int
    gflops: float
    outlook: Outlook
    color: str


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is known at one moment."""

    complete: np.ndarray
    """(trials, 2): GFLOPs, accuracy."""
    trials: list[Open]
    best_fresh_rate: float


def main() -> None:
    parser = argparse.ArgumentParser(description="A picture of gain per second.")
    default = Path(__file__).parents[1] / "docs" / "gain.png"
    parser.add_argument("--out", type=Path, default=default)
    out = parser.parse_args().out
    print(draw(find_moment(), out))


def find_moment() -> Moment:
    found: list[Moment] = []

    def watch(ledger: Ledger) -> None:
        complete = [one for one in ledger.records.values() if one.accuracy is not None]
        running = [one for one in ledger.unfinished() if one.epochs]
        if found or len(complete) < 3 or len(ledger.paused) < 6 or len(running) < 3:
            return
        both = [*running, *ledger.paused.values()]
        outlooks = ledger.index.outlooks(both)
        points = [(one.cost.gflops, one.accuracy) for one in complete if one.cost is not None]
        trials = [
            Open(
                number=one.number,
                gflops=one.cost.gflops,
                outlook=outlook,
                color=ORANGE if one.number in ledger.paused else BLUE,
            )
            for one, outlook in zip(both, outlooks, strict=True)
            if one.cost is not None
        ]
        found.append(
            Moment(
                complete=np.array(points),
                trials=trials,
                best_fresh_rate=ledger.index.best_fresh_rate,
            )
        )

    table = read_benchmark(Path(__file__).with_name("curves"))
    simulate(table, SimulationSettings(workers=4, budget=Budget(trials=80)), watch=watch)
    return found[0]


def draw(moment: Moment, path: Path) -> Path:
    figure = titled_figure(10, 4.4, "One moment of a search, and what it does next")
    accuracies, rates = figure.subplots(1, 2, width_ratios=[1.25, 1])
    draw_accuracies(accuracies, moment)
    draw_rates(rates, moment)
    return save_picture(figure, path)


def draw_accuracies(axes: Axes, moment: Moment) -> None:
    points = moment.complete
    on_front = pareto_front(np.column_stack([points[:, 0], -points[:, 1]]))
    front = points[on_front][np.argsort(points[on_front, 0])]
    ends = np.array([*front[:, 0], max(one.gflops for one in moment.trials) * 1.2])
    levels = 100 * np.array([*front[:, 1], front[-1, 1]])
    axes.step(ends, levels, where="post", color="black", lw=1.5)
    axes.plot(front[:, 0], 100 * front[:, 1], "o", color="black", label="complete, on the front")
    rest = points[~on_front]
    axes.plot(rest[:, 0], 100 * rest[:, 1], "o", color=GREY, ms=4, label="complete")
    best = sorted(moment.trials, key=lambda one: one.outlook.rate)[-NUM_BARS:]
    named = {BLUE: "running", ORANGE: "paused"}
    for one in moment.trials:
        low, middle, high = (100 * one.outlook.accuracy_below(share) for share in (0.1, 0.5, 0.9))
        axes.plot([one.gflops] * 2, [low, high], color=one.color, lw=2, alpha=0.6)
        label = named.pop(one.color, None)
        axes.plot(one.gflops, middle, "D", color=one.color, ms=5, label=label)
        if one in best:
            at, shift = (one.gflops, high), (0, 3)
            axes.annotate(
                str(one.number), at, shift, textcoords="offset points", ha="center", fontsize=8,
                color=one.color,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("effective GFLOPs per image: known exactly")
    axes.set_ylabel("last accuracy (%): expected, with 80 % interval")
    axes.set_ylim(0, 85)
    axes.legend(loc="upper left", fontsize=8, frameon=False, ncols=2)
    tidy(axes)


def draw_rates(axes: Axes, moment: Moment) -> None:
    bars = [(f"trial {one.number}", one.outlook.rate, one.color) for one in moment.trials]
    bars.append(("best new recipe", moment.best_fresh_rate, GREEN))
    bars = sorted(bars, key=lambda bar: bar[1])[-NUM_BARS:]
    names, values, colors = zip(*bars, strict=True)
    best = max(moment.best_fresh_rate, *(o.outlook.rate for o in moment.trials if o.color != BLUE))
    axes.barh(names, np.array(values) / best, color=colors)
    axes.axvline(ENOUGH, color="black", lw=1, ls="--")
    axes.set_xlabel("gain per second (1: the best that is new or paused)")
    axes.text(
        ENOUGH + 0.02, 0, "beyond this line,\na running trial goes on", fontsize=8, va="center"
    )
    tidy(axes, grid="x")


if __name__ == "__main__":
    main()
