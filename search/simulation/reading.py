"""Reads the table of a run without early stopping, or of a folder with a table.yaml."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from analysis.columns import PRUNED, plain_row
from analysis.runs import STUDY, TRIALS, Run, read_run, run_recipe
from search.decisions.chance import Chance, chance_of
from search.simulation.table_folder import TABLE, read_table
from search.simulation.tabular_benchmark import (
    FEWEST_RECIPES,
    BenchmarkTrial,
    TabularBenchmark,
)
from spaces.columns import COSTS
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.space_file import parse_space, resolve_weights
from trainables.costing.effort import Effort
from trainables.costing.figures import Cost
from trainables.learning.metrics import EpochMetrics

# Old runs did not record these. They hardly matter: the head has almost none of a model's FLOPs.
_USUAL_CLASSES, _USUAL_IMAGES = 100, 1000


def read_benchmark(path: Path) -> TabularBenchmark:
    """Read a table: a run folder or one with a table.yaml, or the path of a trials.parquet in it.

    Raises UserError if it is neither, has fewer than 10 full curves, or is damaged or incomplete.
    """
    folder = path.parent if path.name in (TABLE, STUDY, TRIALS) else path
    if (folder / TABLE).exists():
        return read_table(folder)
    if folder.is_dir() and (folder / TRIALS).exists() and not (folder / STUDY).exists():
        raise UserError(
            f"{folder}: has neither {STUDY}, as a run, nor {TABLE}, as a table of another search;"
            " write one of them (docs/searching.md, Replay)"
        )
    return _read_run_table(folder)


def _read_run_table(folder: Path) -> TabularBenchmark:
    run = read_run(folder)
    written = run.study.get("space")
    if not isinstance(written, dict):
        raise UserError(f"{folder}/study.yaml: holds no space, so recipes can't be proposed")
    stopped = run.counts()[PRUNED] - run.num_not_begun
    if stopped:
        raise UserError(
            f"{folder}: {stopped} trials were stopped early, but a replay needs full curves; record"
            " with early_stopping: {name: none}"
        )
    trials = _full_curves(run, folder)
    if len(trials) < FEWEST_RECIPES:
        raise UserError(
            f"{folder}: has {len(trials)} trials with full curves; a replay needs at least"
            f" {FEWEST_RECIPES}"
        )
    space = parse_space(written, name=run.name, source=f"{folder}/study.yaml", folder=folder)
    return TabularBenchmark(
        name=run.name,
        space=replace(space, enqueue=()),
        objectives=run.objectives,
        trials=trials,
        chance=_chance_of(run),
        share_trained=partial(_share_trained, num_classes=run.num_classes or _USUAL_CLASSES),
        training_effort=partial(
            _training_effort,
            num_classes=run.num_classes or _USUAL_CLASSES,
            num_train=run.num_train_images or _USUAL_IMAGES,
            num_validation=run.num_validation_images or _USUAL_IMAGES // 4,
        ),
    )


def _share_trained(recipe: Recipe, *, num_classes: int) -> float:
    # Imported here: torch takes seconds, and the tables of others do without.
    from trainables.costing.training_cost import share_of_training

    return share_of_training(recipe, num_classes)


def _training_effort(
    recipe: Recipe, *, num_classes: int, num_train: int, num_validation: int
) -> Effort:
    from trainables.costing.training_cost import training_effort

    return training_effort(
        recipe, num_classes=num_classes, num_train=num_train, num_validation=num_validation
    )


def _chance_of(run: Run) -> Chance | None:
    counts = run.class_counts
    return chance_of(run.objectives.metric, counts) if counts else None


def _full_curves(run: Run, folder: Path) -> tuple[BenchmarkTrial, ...]:
    curves: dict[int, list[EpochMetrics]] = {}
    rows = cast(
        "list[dict[str, Any]]", run.epochs.sort_values(["trial", "epoch"]).to_dict("records")
    )
    for row in rows:
        curves.setdefault(row.pop("trial"), []).append(EpochMetrics.from_dict(row))
    trials: dict[str, BenchmarkTrial] = {}
    for _, row in run.finished.iterrows():
        values = plain_row(row)
        recipe = run_recipe(values)
        # As in the space, where a run that was shipped has the name of a file alone.
        recipe = recipe.replace(weights=resolve_weights(recipe.weights, folder))
        epochs = curves.get(values["trial"], [])
        if len(epochs) == recipe.epochs:  # other trials took over a result
            cost = Cost.from_dict({name: values[name] for name in COSTS})
            trials.setdefault(
                recipe.key, BenchmarkTrial(recipe=recipe, cost=cost, epochs=tuple(epochs))
            )
    return tuple(trials.values())
