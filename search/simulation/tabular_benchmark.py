"""A recorded search as a table that can be searched again: recipes, costs, learning curves."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from analysis.columns import PRUNED, plain_row
from analysis.pareto.front import Box, FloatArray
from analysis.runs import Run, read_run, run_recipe
from search.decisions.chance import Chance
from spaces.columns import ACCURACY, COSTS
from spaces.dimensions import Fixed, Suggester, Value
from spaces.errors import UserError
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from spaces.space_file import parse_space
from spaces.suggesters import Draw
from trainables.costing.figures import Cost
from trainables.learning.metrics import EpochMetrics

_FEWEST_RECIPES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkTrial:
    """The result of one recipe that was trained to its end."""

    recipe: Recipe
    cost: Cost
    epochs: tuple[EpochMetrics, ...]


@dataclass(frozen=True, kw_only=True)
class TabularBenchmark:
    """The trials of a run without early stopping. Read one with `read_benchmark`."""

    name: str
    space: SearchSpace
    objectives: Objectives
    trials: tuple[BenchmarkTrial, ...]
    chance: Chance | None = None
    """What guessing got on the validation split; None: not recorded."""

    @cached_property
    def losses(self) -> FloatArray:
        """(trials, objectives), all minimised."""
        return np.array(
            [
                self.objectives.losses_of(
                    {**trial.cost.figures, ACCURACY: trial.epochs[-1].accuracy}
                )
                for trial in self.trials
            ]
        )

    @cached_property
    def box(self) -> Box:
        """The box around all recorded losses. Fronts of a replay are measured in it."""
        return Box.around(self.losses, self.objectives.log_columns)


class Nearness:
    """How far apart recipes of a space are: the sum of a distance from 0 to 1 per dimension."""

    def __init__(self, space: SearchSpace, recipes: list[Recipe]) -> None:
        self._scales: dict[str, Callable[[Value], float]] = {}
        self._unordered: list[str] = []
        for field, rule in space.rules.items():
            if isinstance(rule.dimension, Fixed):
                continue
            scale = _scale_of(rule.dimension.extremes, log=getattr(rule.dimension, "log", False))
            if scale is None:
                self._unordered.append(field)
            else:
                self._scales[field] = scale
        dicts = [recipe.to_dict() for recipe in recipes]
        self._numbers = np.array([self._numbers_of(values) for values in dicts])
        self._words = np.array([self._words_of(values) for values in dicts], dtype=object)

    def distances(self, values: Mapping[str, Value]) -> FloatArray:
        """(recipes,): the distance from the recipe of these values to each."""
        apart = np.abs(self._numbers - self._numbers_of(values)).sum(axis=1)
        unequal = self._words != np.array(self._words_of(values), dtype=object)
        return apart + unequal.sum(axis=1)

    def _numbers_of(self, values: Mapping[str, Value]) -> list[float]:
        return [scale(values[field]) for field, scale in self._scales.items()]

    def _words_of(self, values: Mapping[str, Value]) -> list[str]:
        return [repr(values[field]) for field in self._unordered]


class Pool:
    """The recorded recipes that a replay may propose. The nearest replaces what was drawn.

    Every recipe is proposed once. When all are used up, they come again with another seed.
    """

    def __init__(self, table: TabularBenchmark) -> None:
        self._table = table
        self._nearness = Nearness(table.space, [trial.recipe for trial in table.trials])
        self._places = {_without_seed(trial.recipe): i for i, trial in enumerate(table.trials)}
        self._used = np.zeros(len(table.trials), dtype=int)

    def nearest(self, recipe: Recipe) -> Recipe:
        """The recorded recipe nearest to a drawn one, among those used least so far."""
        left = np.flatnonzero(self._used == self._used.min())
        distances = self._nearness.distances(recipe.to_dict())[left]
        return self._table.trials[left[int(distances.argmin())]].recipe

    def left(self) -> list[Recipe]:
        """The recorded recipes used least so far."""
        least = np.flatnonzero(self._used == self._used.min())
        return [self._table.trials[index].recipe for index in least]

    def take(self, recipe: Recipe) -> Recipe:
        """Use up a recorded recipe; returns it with a seed that it did not have before."""
        index = self._places[_without_seed(recipe)]
        self._used[index] += 1
        return replace(recipe, seed=recipe.seed + int(self._used[index]) - 1)

    def find(self, recipe: Recipe) -> BenchmarkTrial:
        """The recorded trial of a recipe, whatever its seed."""
        return self._table.trials[self._places[_without_seed(recipe)]]


@dataclass(frozen=True, kw_only=True)
class PoolSpace(SearchSpace):
    """A space from which only recorded recipes are drawn. It needs a PoolSampler."""

    pool: Pool

    def suggest(self, trial: Suggester) -> Recipe:
        return self.pool.take(super().suggest(trial))


class PoolSampler(BaseSampler):
    """Limits another sampler to recorded recipes. Make one for each trial.

    What the other sampler draws is replaced before Optuna stores it, so it learns from what was
    trained.
    """

    def __init__(self, sampler: BaseSampler, space: SearchSpace, pool: Pool) -> None:
        self._sampler = sampler
        self._space = space
        self._pool = pool
        self._relative_space: dict[str, BaseDistribution] = {}
        self._values: dict[str, Value] | None = None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        self._relative_space = self._sampler.infer_relative_search_space(study, trial)
        return {}  # so that every value is asked for below

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        relative = self._sampler.sample_relative(study, trial, self._relative_space)

        def value_of(name: str, distribution: BaseDistribution) -> Any:
            if name in relative:
                return relative[name]
            return self._sampler.sample_independent(study, trial, name, distribution)

        drawn = self._space.suggest(Draw(value_of))
        self._values = self._pool.nearest(drawn).to_dict()
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        assert self._values is not None, "drawn when the trial was made"
        return self._values[param_name]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


def read_benchmark(path: Path) -> TabularBenchmark:
    """Read the table of a run folder, or of a trials.parquet in one.

    Raises UserError if it is not a run, or has stopped trials or fewer than 10 full curves.
    """
    folder = path.parent if path.suffix == ".parquet" else path
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
    trials = _full_curves(run)
    if len(trials) < _FEWEST_RECIPES:
        raise UserError(
            f"{folder}: has {len(trials)} trials with full curves; a replay needs at least"
            f" {_FEWEST_RECIPES}"
        )
    space = parse_space(written, name=run.name, source=f"{folder}/study.yaml", folder=folder)
    return TabularBenchmark(
        name=run.name,
        space=replace(space, enqueue=()),
        objectives=run.objectives,
        trials=trials,
        chance=_chance_of(run),
    )


def _chance_of(run: Run) -> Chance | None:
    if run.num_classes is None or run.majority_share is None or not run.num_validation_images:
        return None
    return Chance(
        num_classes=run.num_classes,
        majority_share=run.majority_share,
        num_images=run.num_validation_images,
    )


def _full_curves(run: Run) -> tuple[BenchmarkTrial, ...]:
    curves: dict[int, list[EpochMetrics]] = {}
    rows = cast(
        "list[dict[str, Any]]", run.epochs.sort_values(["trial", "epoch"]).to_dict("records")
    )
    for row in rows:
        curves.setdefault(row.pop("trial"), []).append(EpochMetrics(**row))
    trials: dict[str, BenchmarkTrial] = {}
    for _, row in run.finished.iterrows():
        values = plain_row(row)
        recipe = run_recipe(values)
        epochs = curves.get(values["trial"], [])
        if len(epochs) == recipe.epochs:  # other trials took over a result
            cost = Cost.from_dict({name: values[name] for name in COSTS})
            trials.setdefault(
                recipe.key, BenchmarkTrial(recipe=recipe, cost=cost, epochs=tuple(epochs))
            )
    return tuple(trials.values())


def _without_seed(recipe: Recipe) -> str:
    return replace(recipe, seed=0).key


def _scale_of(values: tuple[Value, ...], *, log: bool) -> Callable[[Value], float] | None:
    """A scale from numbers to 0..1; None if the values are not all numbers."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        return None
    transform = math.log if log else float
    low, high = transform(min(numbers)), transform(max(numbers))
    span = (high - low) or 1.0
    # Where a `when` does not hold, a field may have no number: as far away as the ends are apart.
    return lambda value: 2.0 if value is None else (transform(value) - low) / span  # pyright: ignore
