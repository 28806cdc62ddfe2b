"""What is known of recipes before any training: costs, seconds, and where the model sees them."""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from search.decisions.gain.encoding import Encoding
from search.decisions.trial_record import TrialRecord
from spaces.columns import ARCHITECTURE_FIELDS, LATENCY, FloatArray
from spaces.errors import UserError
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from trainables.costing.effort import Effort
from trainables.costing.figures import Cost

# Architectures are counted once, in about 0.1 s: so many before the first trial, so many more
# before each other one, and so many that are not planned.
_NUM_COUNTED_FIRST, _NUM_COUNTED, _NUM_UNPLANNED = 24, 4, 4
_MOST_KNOWN = 10_000


class Candidate(NamedTuple):
    """What is known of one recipe."""

    recipe: Recipe
    key: str
    point: FloatArray
    magnitudes: list[float]
    """Of the costs that are objectives."""
    schedule: int
    effort: Effort


class CandidatePool:
    """Candidates as arrays."""

    def __init__(self, candidates: Sequence[Candidate], num_costs: int) -> None:
        self.all = list(candidates)
        self.points = np.array([one.point for one in candidates])
        magnitudes = [one.magnitudes for one in candidates]
        self.magnitudes = np.array(magnitudes, dtype=float).reshape(len(candidates), num_costs)
        self.schedules = np.array([one.schedule for one in candidates], dtype=np.intp)

    def seconds(self, paid: Collection[str] = ()) -> FloatArray:
        """(candidates,). paid: names of shared work that was done."""
        return np.array([one.effort.left(one.recipe.epochs, paid=paid) for one in self.all])


class Catalogue:
    """Looks recipes up, each once."""

    def __init__(
        self,
        *,
        encoding: Encoding,
        objectives: Objectives,
        foretell: Callable[[Recipe], Cost],
        effort: Callable[[Recipe], Effort],
    ) -> None:
        """As `GainIndex`."""
        self._encoding = encoding
        self._objectives = objectives
        self._foretell = foretell
        self._effort = effort
        self._schedules: dict[str, int] = {}
        self._known: dict[Recipe, Candidate | None] = {}
        self._of_trials: dict[int, Candidate] = {}
        self._of_trials_counted: set[tuple[Any, ...]] = set()
        self._planned: list[tuple[Any, ...]] = []
        # A latency is a guess until models like it are measured.
        bounds = (bound.column for bound in objectives.constraints)
        self._costs_are_guesses = LATENCY in {*objectives, *bounds}

    @property
    def num_costs(self) -> int:
        """How many objectives are costs."""
        return len(self._objectives) - (self._objectives.metric is not None)

    def plan(self, recipes: Iterable[Recipe]) -> None:
        """Set the order in which architectures are counted: that of their first recipes."""
        self._planned = list(dict.fromkeys(map(_architecture, recipes)))

    def pool(
        self, recipes: Sequence[Recipe], number: int, tried: Collection[str] = ()
    ) -> CandidatePool:
        """What is known of recipes for the trial of a number; 0: before any trial.

        Only so many architectures are counted: planned ones, more with every trial, and more where
        no recipe would be left besides those with the keys `tried`; those of trials; and a few
        others, the last recipes first. So the same pool comes again in a resume.
        """
        count = _NUM_COUNTED_FIRST + _NUM_COUNTED * number
        others = list(dict.fromkeys(map(_architecture, reversed(recipes))))
        while True:
            allowed = set(self._planned[:count])
            allowed |= self._of_trials_counted
            unplanned = (one for one in others if one not in allowed) if number else ()
            allowed.update(list(itertools.islice(unplanned, _NUM_UNPLANNED)))
            found = self.look_up(one for one in recipes if _architecture(one) in allowed)
            if count >= len(self._planned) or any(one.key not in tried for one in found):
                return CandidatePool(found, self.num_costs)
            count *= 2

    def look_up(self, recipes: Iterable[Recipe]) -> list[Candidate]:
        """What is known of recipes, without those that break a bound or can't be built."""
        if len(self._known) > _MOST_KNOWN or self._costs_are_guesses:
            self._known.clear()
        found: dict[str, Candidate] = {}
        for recipe in recipes:
            if recipe not in self._known:
                self._known[recipe] = self._candidate(recipe)
            candidate = self._known[recipe]
            if candidate is not None:
                found[candidate.key] = candidate
        return list(found.values())

    def of(self, record: TrialRecord) -> Candidate:
        """What is known of a trial's recipe, whatever bounds it breaks."""
        if record.number not in self._of_trials:
            assert record.recipe is not None
            assert record.cost is not None
            try:
                effort = self._effort(record.recipe)
            except UserError:  # then its training fails, and says so
                effort = Effort(epoch=1.0)
            self._of_trials[record.number] = self._with_figures(
                record.recipe, record.cost.figures, effort
            )
            self._of_trials_counted.add(_architecture(record.recipe))
        return self._of_trials[record.number]

    def _candidate(self, recipe: Recipe) -> Candidate | None:
        try:
            figures = self._foretell(recipe).figures
            effort = self._effort(recipe)
        except UserError:
            return None
        bounds = (bound for bound in self._objectives.constraints if not bound.is_of_a_metric)
        if any(bound.violation(figures.get(bound.column)) > 0 for bound in bounds):
            return None
        return self._with_figures(recipe, figures, effort)

    def _with_figures(
        self, recipe: Recipe, figures: Mapping[str, Any], effort: Effort
    ) -> Candidate:
        magnitudes = [
            math.log(max(figures[name], 1e-12)) * (-1 if way == "max" else 1)
            for name, way in self._objectives.items()
            if name != self._objectives.metric
        ]
        return Candidate(
            recipe=recipe,
            key=recipe.key,
            point=self._encoding.encode([recipe.to_dict()])[0],
            magnitudes=magnitudes,
            schedule=self._schedules.setdefault(recipe.scheduler, len(self._schedules)),
            effort=effort,
        )


def _architecture(recipe: Recipe) -> tuple[Any, ...]:
    return tuple(getattr(recipe, field) for field in ARCHITECTURE_FIELDS)
