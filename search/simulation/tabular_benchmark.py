"""A table that can be searched again: recipes, their costs and their full learning curves."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from analysis.pareto.front import Box, FloatArray
from search.decisions.chance import Chance
from spaces.columns import COSTS
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from trainables.costing.effort import Effort
from trainables.costing.figures import Cost
from trainables.learning.metrics import EpochMetrics

FEWEST_RECIPES = 10
_GFLOPS = "gflops"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkTrial:
    """The result of one recipe that was trained to its end."""

    recipe: Recipe
    cost: Cost
    epochs: tuple[EpochMetrics, ...]


def _all_of_it(recipe: Recipe) -> float:
    return 1.0


@dataclass(frozen=True, kw_only=True)
class TabularBenchmark:
    """Recipes with full curves. Read one with `reading.read_benchmark`."""

    name: str
    space: SearchSpace
    objectives: Objectives
    trials: tuple[BenchmarkTrial, ...]
    """No two have the same recipe."""
    chance: Chance | None = None
    """What guessing got on the validation split; None: not recorded."""
    share_trained: Callable[[Recipe], float] = _all_of_it
    """The multiply-adds of training a recipe, as a share of training all of its blocks."""
    training_effort: Callable[[Recipe], Effort] | None = None
    """What training a recipe takes, foretold; None: one cost in proportion says it."""

    @cached_property
    def losses(self) -> FloatArray:
        """(trials, objectives), all minimised."""
        return np.array(
            [
                self.objectives.losses_of({**trial.cost.figures, **trial.epochs[-1].metrics})
                for trial in self.trials
            ]
        )

    @cached_property
    def box(self) -> Box:
        """The box around all recorded losses. Fronts of a replay are measured in it."""
        return Box.around(self.losses, self.objectives.log_columns)

    @cached_property
    def seconds(self) -> float:
        """The time of all epochs of all recipes, one after the other."""
        return sum(metrics.seconds for trial in self.trials for metrics in trial.epochs)

    def find(self, recipe: Recipe) -> BenchmarkTrial:
        """The recorded trial of a recipe, whatever its seed."""
        return self.trials[self.index(recipe)]

    def index(self, recipe: Recipe) -> int:
        """The position of a recipe in `trials`, whatever its seed."""
        return self._indices[_without_seed(recipe)]

    def effort(self, recipe: Recipe) -> float:
        """What an epoch of a recorded recipe takes, to compare it with others of the table.

        Its GFLOPs, or else the first cost among the objectives, times the share that trains.
        """
        figures = self.find(recipe).cost.figures
        costs = (name for name in (_GFLOPS, *self.objectives) if name in COSTS and name in figures)
        cost = next(costs, None)
        return (1.0 if cost is None else figures[cost]) * self.share_trained(recipe)

    def foretold(self, recipe: Recipe) -> Effort:
        """What a search of this table foretells that training a recipe takes."""
        if self.training_effort is not None:
            return self.training_effort(recipe)
        return Effort(epoch=self._seconds_of_effort * self.effort(recipe))

    @cached_property
    def _seconds_of_effort(self) -> float:
        """Seconds that one unit of effort took, in the median over the recipes."""
        return float(
            np.median(
                [
                    np.median([one.seconds for one in trial.epochs]) / self.effort(trial.recipe)
                    for trial in self.trials
                    if self.effort(trial.recipe) > 0
                ]
                or [1.0]
            )
        )

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {_without_seed(trial.recipe): index for index, trial in enumerate(self.trials)}


def _without_seed(recipe: Recipe) -> str:
    return replace(recipe, seed=0).key
