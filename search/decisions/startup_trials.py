"""The order of the first trials of a search: those with the most frozen blocks begin first.

Before a sampler has results, it draws each trial at random with a seed of its own, so their order
is free. A model that trains only its head may take a hundredth of the time of one that trains all
blocks, and reaches much of its accuracy. If it begins first, later trials can be compared with it.
Cheap models do not go before expensive ones, since a front needs both. In a replay of models that
differ only in cost, that order found the expensive end of the front a third later.
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

# TPE draws this many at random before it uses results: Optuna's n_startup_trials.
_NUM_FIRST = 10


class StartupTrials:
    """Sorts the first trials that a sampler draws by their effort."""

    def __init__(
        self,
        space: SearchSpace,
        directions: Sequence[StudyDirection],
        *,
        sampler_of: Callable[[int], BaseSampler],
        effort: Callable[[Recipe], float],
        num_enqueued: int = 0,
        num_trials: int | None = None,
    ) -> None:
        """sampler_of: the sampler for a trial number, before sorting.

        effort: of training a recipe, in any unit. If it raises UserError, the recipe goes last.
        num_enqueued: so many recipes are tried before any is drawn.
        num_trials: the search ends after this many, if that is known. A short search only sorts the
        recipes that it would try anyway. It does not pick the most frozen of ten.
        """
        self._space = space
        self._directions = list(directions)
        self._sampler_of = sampler_of
        self._effort = effort
        begin, end = num_enqueued, num_enqueued + _NUM_FIRST
        self._numbers = range(begin, end if num_trials is None else min(end, num_trials))

    def sampler_of(self, number: int) -> BaseSampler:
        """The sampler for a trial number. The same number always gets the same one."""
        return self._sampler_of(self._places[number] if number in self._numbers else number)

    @cached_property
    def _places(self) -> dict[int, int]:
        ranked = sorted(self._numbers, key=self._effort_of)
        return dict(zip(self._numbers, ranked, strict=True))

    def _effort_of(self, number: int) -> float:
        # Draw in a separate study without results, as the search has none yet either.
        study = optuna.create_study(directions=self._directions, sampler=self._sampler_of(number))
        try:
            return self._effort(self._space.suggest(study.ask()))
        except UserError:
            return math.inf  # if it can't train, the search reports that when its turn comes
