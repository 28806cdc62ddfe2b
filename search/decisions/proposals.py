"""Where a search's recipes come from: its space, earlier runs, a new sampler for each trial."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from optuna.samplers import BaseSampler

from search.decisions.earlier_trials import EarlierTrials
from search.decisions.gain.fresh import FreshRecipes
from search.decisions.gain.index import GainIndex
from search.decisions.samplers import SAMPLERS, build_sampler
from search.decisions.startup_trials import StartupTrials
from search.decisions.trial_views import TrialView
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from trainables.costing.effort import Effort
from trainables.costing.figures import Cost


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """The sampler for each trial number. The same number always gets the same one."""

    space: SearchSpace
    objectives: Objectives
    sampler: str
    """Its name in study files."""
    seed: int
    """The study's."""
    earlier: EarlierTrials = field(default_factory=EarlierTrials)
    """Trials of earlier runs."""
    effort: Callable[[Recipe], float] | None = None
    """The effort of training a recipe: see `startup_trials`. None: trials keep their order."""
    num_trials: int | None = None
    """The search ends after this many; None if that is not known."""
    wrap: Callable[[BaseSampler], BaseSampler] = lambda sampler: sampler
    """Applied to each sampler before it is used."""
    fresh: FreshRecipes | None = None
    """Recipes for the gain sampler to choose from; None: drawn from the space."""
    training_effort: Callable[[Recipe], Effort] = lambda _: Effort(epoch=1.0)
    """The seconds that training a recipe takes, by arithmetic."""
    foretell: Callable[[Recipe], Cost] | None = None
    """The cost of a recipe without measuring any; None: as the ledger measures it."""
    startup_space: SearchSpace | None = None
    """The space for looking ahead at startup trials, if drawing from `space` has side effects."""

    def sampler_of(self, number: int, index: GainIndex | None = None) -> BaseSampler:
        """The sampler that proposes the trial of a number."""
        if self.rates_by_gain:
            return self._drawn_by(number, index)
        return self._drawn_by(number) if self._startup is None else self._startup.sampler_of(number)

    @property
    def enqueued(self) -> tuple[Recipe, ...]:
        """The recipes to be tried before any that are drawn: the space's, then earlier runs'."""
        return (*self.space.enqueue, *self.earlier.first)

    @property
    def rates_by_gain(self) -> bool:
        """Whether the sampler asks the gain index."""
        return SAMPLERS[self.sampler].rates_by_gain

    def view(self) -> TrialView:
        """A new, empty view: what the sampler is shown of the trials."""
        return SAMPLERS[self.sampler].view(self.objectives)

    def _drawn_by(self, number: int, index: GainIndex | None = None) -> BaseSampler:
        return self.wrap(
            build_sampler(self.sampler, seed=self.seed, trial_number=number, index=index)
        )

    @cached_property
    def _startup(self) -> StartupTrials | None:
        # A sampler that knows results needs no startup trials.
        if self.effort is None or self.earlier.results:
            return None
        return StartupTrials(
            self.startup_space or self.space,
            self.objectives.optuna_directions,
            sampler_of=self._drawn_by,
            effort=self.effort,
            num_enqueued=len(self.enqueued),
            num_trials=self.num_trials,
        )
