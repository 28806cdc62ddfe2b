"""In which order the first trials of a search begin: those with most blocks frozen go first.

Before a sampler has results it draws at random, each trial from a seed of its own, and which of
them begins first is free. With its head alone to train a model may take a hundredth of what it
takes with all its blocks, and comes to much of their accuracy: begun first, it leaves the others
something to be compared with. Cheap models are not put before dear ones: a front needs both, and in
a replay of models that differ in nothing else its dear end came a third later.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection

from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.space import SearchSpace

# As many as TPE draws before it goes by what it knows: Optuna's n_startup_trials.
_NUM_FIRST = 10


class StartupTrials:
    """Has the first trials of a study that a sampler draws change places, by the effort."""

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[StudyDirection],
        *,
        sampler_of: Callable[[int], BaseSampler],
        effort: Callable[[Recipe], float],
        num_trials: int | None = None,
    ) -> None:
        """sampler_of: by the number of the trial that it draws when nothing changes places.

        effort: of training a recipe, in any unit. It may raise UserError: such a recipe goes last.
        num_trials: after which the search ends, if that is known. A short one shall see the recipes
        that it would see anyway, not those of ten that have most frozen.
        """
        self._space = space
        self._directions = list(directions)
        self._sampler_of = sampler_of
        self._effort = effort
        begin = len(space.enqueue)
        end = begin + _NUM_FIRST
        self._numbers = range(begin, end if num_trials is None else min(end, num_trials))

    def sampler_of(self, number: int) -> BaseSampler:
        """What draws the trial of a number: the same whenever it is asked for."""
        return self._sampler_of(self._places[number] if number in self._numbers else number)

    @cached_property
    def _places(self) -> dict[int, int]:
        ranked = sorted(self._numbers, key=self._effort_of)
        return dict(zip(self._numbers, ranked, strict=True))

    def _effort_of(self, number: int) -> float:
        # In a study of its own, as in one that has no results yet.
        study = optuna.create_study(directions=self._directions, sampler=self._sampler_of(number))
        try:
            return self._effort(self._space.suggest(study.ask()))
        except UserError:
            return math.inf  # what can't train is told when its turn comes
