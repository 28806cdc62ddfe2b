"""Where a search's recipes come from: its space, and a sampler made anew for each trial."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from optuna.samplers import BaseSampler

from search.decisions.samplers import SAMPLERS, build_sampler
from search.decisions.startup_trials import StartupTrials
from search.decisions.trial_views import TrialView
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from spaces.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """What proposes the trial of each number, and the same whenever it is asked for."""

    space: SearchSpace
    objectives: Objectives
    sampler: str
    """As study files name it."""
    seed: int
    """The study's."""
    effort: Callable[[Recipe], float] | None = None
    """Of training a recipe: see `startup_trials`. None: trials begin as they are drawn."""
    num_trials: int | None = None
    """After which the search ends, if that is known."""
    wrap: Callable[[BaseSampler], BaseSampler] = lambda sampler: sampler
    """What becomes of each sampler before it is used."""
    startup_space: SearchSpace | None = None
    """What startup trials are looked at in, where drawing from the space itself has effects."""

    def sampler_of(self, number: int) -> BaseSampler:
        """What proposes the trial of a number."""
        return self._drawn_by(number) if self._startup is None else self._startup.sampler_of(number)

    def view(self) -> TrialView:
        """What the sampler is shown of the trials; nothing has been taken in yet."""
        return SAMPLERS[self.sampler].view(self.objectives)

    def _drawn_by(self, number: int) -> BaseSampler:
        return self.wrap(build_sampler(self.sampler, seed=self.seed, trial_number=number))

    @cached_property
    def _startup(self) -> StartupTrials | None:
        if self.effort is None:
            return None
        return StartupTrials(
            self.startup_space or self.space,
            self.objectives.optuna_directions,
            sampler_of=self._drawn_by,
            effort=self.effort,
            num_trials=self.num_trials,
        )
