"""Limits a search to the recipes of a table: the nearest one replaces what a sampler drew."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from analysis.pareto.front import FloatArray, IntArray
from search.simulation.tabular_benchmark import BenchmarkTrial, TabularBenchmark
from spaces.dimensions import Fixed, Suggester, Value
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from spaces.suggesters import Draw


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
    """The recipes of a table that a replay may propose.

    Every recipe is proposed once. When all are used up, they come again with another seed.
    """

    def __init__(self, table: TabularBenchmark) -> None:
        self._table = table
        self._nearness = Nearness(table.space, [trial.recipe for trial in table.trials])
        self._used = np.zeros(len(table.trials), dtype=int)

    @property
    def is_foreign(self) -> bool:
        """Whether the recipes are those of another search."""
        return self._table.training_effort is None

    def left(self) -> list[Recipe]:
        """The recorded recipes that may be proposed next: those used least so far."""
        return [self._table.trials[index].recipe for index in self._left()]

    def nearest(self, values: Mapping[str, Value]) -> Recipe:
        """The recipe nearest to drawn values, among those that are left."""
        left = self._left()
        distances = self._nearness.distances(values)[left]
        return self._table.trials[left[int(distances.argmin())]].recipe

    def take(self, recipe: Recipe) -> Recipe:
        """Use up a recorded recipe; returns it with a seed that it did not have before."""
        index = self._table.index(recipe)
        self._used[index] += 1
        return replace(recipe, seed=recipe.seed + int(self._used[index]) - 1)

    def find(self, recipe: Recipe) -> BenchmarkTrial:
        """The recorded trial of a recipe, whatever its seed."""
        return self._table.find(recipe)

    def _left(self) -> IntArray:
        return np.flatnonzero(self._used == self._used.min())


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

        self._values = self._pool.nearest(self._space.draw(Draw(value_of))).to_dict()
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
