"""Compares the fronts of several runs: one picture, one reference point, what each adds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from analysis.columns import amount, describe_recipe, heading, plain, write_percent
from analysis.pareto.front import pareto_front
from analysis.plot_style import (
    GREY,
    MARKERS,
    OKABE_ITO,
    axis_title,
    metric_axis,
    new_figure,
    picture_text,
    save_picture,
    set_cost_scale,
    tidy,
)
from analysis.results.hypervolume_range import HypervolumeRange, ReferenceBox, reference_box
from analysis.runs import Run
from spaces.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One of the runs that are compared."""

    run: Run
    name: str
    """The run's name, or its path where runs have equal names."""
    front: pd.DataFrame
    share: float
    """The hypervolume: the share of `measured_in` that its front dominates, 0 to 1."""
    measured_in: ReferenceBox
    own: pd.DataFrame
    """Rows of its front that no other run's front dominates or equals."""


def compare_runs(runs: Sequence[Run], wanted: HypervolumeRange | None = None) -> list[Compared]:
    """Compare the fronts of runs, in one box with one reference point.

    The box is that of `analysis.results.hypervolume_range`, around all fronts. Raises UserError for
    fewer than two runs, for runs whose objectives or data differ, where one has no feasible trial,
    and for a wanted range that does not fit the runs.
    """
    if len(runs) < 2:
        raise UserError("compare: name two run folders or more")
    first = runs[0]
    for run in runs[1:]:
        if run.objectives != first.objectives:
            raise UserError(
                f"{run.path}: its objectives are {_words(run)}, those of {first.path}"
                f" {_words(first)}; compare runs with the same objectives"
            )
        if _data(run) != _data(first):
            raise UserError(
                f"{run.path}: its data is not that of {first.path}; compare runs on the same data"
            )
    fronts = [run.front() for run in runs]
    losses = [run.losses_of(front) for run, front in zip(runs, fronts, strict=True)]
    box = reference_box(runs, np.vstack(losses), wanted)
    names = _names(runs)
    compared = []
    for index, run in enumerate(runs):
        others = np.vstack([rows for other, rows in enumerate(losses) if other != index])
        equal = (losses[index][:, None] == others).all(axis=2).any(axis=1)
        free = pareto_front(np.vstack([losses[index], others]))[: len(losses[index])]
        compared.append(
            Compared(
                run=run,
                name=names[index],
                front=fronts[index],
                share=box.share(losses[index]),
                measured_in=box,
                own=fronts[index].loc[free & ~equal].reset_index(drop=True),
            )
        )
    return compared


def comparison_table(compared: Sequence[Compared]) -> Table:
    """A row for each run: hypervolume, front, best accuracy, and points that only it has."""
    metric = compared[0].run.metric
    table = Table(title="Fronts compared", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    for name in ("hypervolume (%)", "trials", "front", f"best {heading(metric)}", "only here"):
        table.add_column(Text(name), justify="right")
    table.add_column("for instance", overflow="fold")
    for one in compared:
        cost = one.run.costs[0]
        named = [
            f"{amount(metric, row[metric])} at {amount(cost, row[cost])}: {describe_recipe(row)}"
            for row in one.own.sort_values(metric, ascending=False).to_dict("records")[:1]
        ]
        table.add_row(
            Text(one.name), f"{100 * one.share:.1f}", f"{len(one.run.trials):,}",
            str(len(one.front)), write_percent(one.front[metric].max()), str(len(one.own)),
            *map(Text, named),
        )  # fmt: skip
    table.caption = Text(
        "hypervolume: the share that a front dominates of"
        f" {compared[0].measured_in.note}; only here: points not matched or beaten by another run",
        style="table.caption",
    )
    table.caption_justify = "left"
    return table


def comparison_records(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """The table as plain data, with the trials of each front and of the points only it has."""
    return [
        {
            "run": one.name,
            "folder": str(one.run.path),
            "hypervolume": one.share,
            "reference_accuracy": one.measured_in.reference_accuracy,
            "cost_range": one.measured_in.cost_range and list(one.measured_in.cost_range),
            "trials": len(one.run.trials),
            f"best_{one.run.metric}": float(one.front[one.run.metric].to_numpy(dtype=float).max()),
            "front": [plain(trial) for trial in one.front["trial"]],
            "only_here": [plain(trial) for trial in one.own["trial"]],
        }
        for one in compared
    ]


def comparison_picture(compared: Sequence[Compared], path: Path) -> Path:
    """Draw every front, the metric (%) against the first cost, as a PNG at path; return path.

    Each run has a colour and a shape. Points that only it has are filled, the others hollow.
    """
    cost, metric = compared[0].run.costs[0], compared[0].run.metric
    figure = new_figure(9, 5.6)
    axes = figure.add_subplot()
    set_cost_scale(axes, np.concatenate([one.front[cost].to_numpy() for one in compared]))
    for index, one in enumerate(compared):
        colour, marker = OKABE_ITO[index % len(OKABE_ITO)], MARKERS[index % len(MARKERS)]
        steps = one.front.sort_values([cost, metric])
        axes.step(steps[cost], 100 * steps[metric], where="post", c=colour, lw=1.2)
        mine = steps["trial"].isin(one.own["trial"])
        axes.scatter(
            steps[cost], 100 * steps[metric], marker=marker, s=60, edgecolors=colour,
            facecolors=[colour if own else "white" for own in mine], zorder=3,
        )  # fmt: skip
        message = f"{one.name}: {100 * one.share:.1f} %"
        axes.plot([], [], c=colour, marker=marker, label=message)
    measured_in = compared[0].measured_in
    if measured_in.reference_accuracy is not None:
        axes.axhline(100 * measured_in.reference_accuracy, color=GREY, lw=0.8, ls=":")
    for end in measured_in.cost_range or ():
        axes.axvline(end, color=GREY, lw=0.8, ls=":")
    axes.set_xlabel(
        f"{axis_title(cost)}\nhypervolume (dotted lines): {picture_text(measured_in.note)}"
    )
    axes.set_ylabel(metric_axis(metric))
    axes.set_title("Filled: not matched or beaten by another run", loc="left", fontsize=11)
    tidy(axes)
    axes.legend(title="hypervolume", loc="lower right", frameon=False, fontsize=9)
    return save_picture(figure, path)


def _names(runs: Sequence[Run]) -> list[str]:
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _words(run: Run) -> str:
    return ", ".join(f"{name} {way}" for name, way in run.objectives.items())


def _data(run: Run) -> Any:
    return (run.study.get("provenance") or {}).get("data_digest")
