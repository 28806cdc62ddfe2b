"""A search's trials in Optuna's storage. Only this code writes to it.

A trial's recipe and cost are stored before it starts, and its outcome before it is told. So if a
driver dies at any moment, the next one knows what was finished and what has to go on.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict

import optuna
from optuna.samplers import BaseGASampler
from optuna.trial import FrozenTrial, TrialState

from search.decisions.gain.index import GainIndex
from search.decisions.proposals import Proposals
from search.decisions.sampler_view import study_with_view
from search.decisions.trial_record import (
    COST,
    ENQUEUED,
    EXPECTED,
    OUTCOME,
    PAUSED,
    RECIPE,
    RUNGS,
    TrialRecord,
)
from search.decisions.trial_views import earlier_trial
from spaces.objectives import Objectives
from spaces.recipe import Recipe, recipe_from

# The study attribute for the wall time so far.
_SECONDS = "seconds_searched"


class TrialStore:
    """Asks Optuna for trials, and stores what is known of each."""

    def __init__(self, study: optuna.Study, proposals: Proposals) -> None:
        """Samplers that learn are shown the results of earlier runs too."""
        self._proposals = proposals
        self._stored = study
        results = [self._as_earlier(record) for record in proposals.earlier.results]
        self._study = study_with_view(study, proposals.view(), results)
        self._trials: dict[int, optuna.Trial] = {}
        self.index: GainIndex | None = None

    @property
    def objectives(self) -> Objectives:
        return self._proposals.objectives

    def trials(self) -> list[FrozenTrial]:
        """The stored trials: first those that were told, in that order, then the others."""
        return sorted(self._stored.get_trials(deepcopy=False), key=_when_told)

    def enqueue(self, recipes: Iterable[Recipe]) -> None:
        """Propose each of these recipes once, before the sampler draws any."""
        trials = self._stored.get_trials(deepcopy=False)
        written = (trial.user_attrs.get(ENQUEUED) for trial in trials)
        # As recipes: one that an older version stored may lack fields.
        known = {recipe_from(values) for values in written if values is not None}
        for recipe in recipes:
            if recipe not in known:
                self._study.enqueue_trial(
                    self._proposals.space.params_of(recipe),
                    user_attrs={ENQUEUED: recipe.to_dict()},
                )

    def ask(self, number: int) -> int:
        """Begin the trial of the next number; returns the number that Optuna gives it."""
        self._study.sampler = self._proposals.sampler_of(number, self.index)
        trial = self._study.ask()
        self._trials[trial.number] = trial
        return trial.number

    def reopen(self, frozen: FrozenTrial) -> None:
        """Continue a trial that an earlier driver began."""
        self._study.sampler = self._proposals.sampler_of(frozen.number, self.index)
        # Private, but the only way to a running trial: Optuna can't resume one.
        self._trials[frozen.number] = optuna.Trial(self._study, frozen._trial_id)

    def draw(self, record: TrialRecord) -> None:
        """Draw and store a trial's recipe, or the part that a dead driver had not drawn.

        Raises UserError if the fields do not fit each other. This is so rare that reading the space
        did not find it.
        """
        trial = self._trials[record.number]
        record.recipe = self._recipe_of(trial)
        trial.set_user_attr(RECIPE, record.recipe.to_dict())

    def store_cost(self, record: TrialRecord) -> None:
        assert record.cost is not None
        self._trials[record.number].set_user_attr(COST, record.cost.to_dict())

    def store_expected(self, record: TrialRecord) -> None:
        assert record.expected is not None
        self._trials[record.number].set_user_attr(EXPECTED, asdict(record.expected))

    def store_violations(self, record: TrialRecord, violations: Mapping[str, float]) -> None:
        """Store all violations: samplers also learn from constraints that hold."""
        trial = self._trials[record.number]
        for column, violation in violations.items():
            if column not in trial.constraints:
                trial.set_constraint(column, violation)

    def store_rungs(self, record: TrialRecord) -> None:
        self._trials[record.number].set_user_attr(RUNGS, record.rungs)

    def store_pause(self, record: TrialRecord) -> None:
        """Store that a trial is to be paused, is paused or goes on, with its epochs so far."""
        self._trials[record.number].set_user_attr(PAUSED, record.pause())

    def store_outcome(self, record: TrialRecord, state: TrialState) -> None:
        """Store a trial's outcome before it is told."""
        self._trials[record.number].set_user_attr(OUTCOME, record.outcome(state))

    def tell(self, record: TrialRecord) -> None:
        """Tell Optuna the state of a trial that is over. Call this once."""
        values = None
        if record.state == TrialState.COMPLETE:
            values = self.objectives.values_of(record.numbers())
            self.store_violations(record, self.objectives.violations(record.numbers()))
        self._study.tell(record.number, values, state=record.state)

    @property
    def seconds_searched(self) -> float:
        """Wall time of the search, over all sessions that have saved it."""
        return self._stored.user_attrs.get(_SECONDS, 0.0)

    def save_seconds_searched(self, seconds: float) -> None:
        self._stored.set_user_attr(_SECONDS, seconds)

    def _recipe_of(self, trial: optuna.Trial) -> Recipe:
        space = self._proposals.space
        enqueued = trial.user_attrs.get(ENQUEUED)
        if enqueued is None:
            return space.suggest(trial)
        recipe = recipe_from(enqueued)
        sampler = self._study.sampler
        if isinstance(sampler, BaseGASampler):
            # Optuna gives a generation only to trials that it drew. Without one, NSGA would never
            # use this recipe as a parent.
            frozen = self._stored.get_trials(deepcopy=False)[trial.number]
            sampler.get_trial_generation(self._study, frozen)
        # Draw the fixed values too, so that the sampler knows the recipe's parameters.
        for name in space.params_of(recipe):
            space.rules[name].dimension.suggest(trial, name)
        return recipe

    def _as_earlier(self, record: TrialRecord) -> FrozenTrial:
        assert record.recipe is not None
        assert record.cost is not None
        params, distributions = self._proposals.space.params_and_distributions(record.recipe)
        numbers = record.numbers()
        return earlier_trial(
            -1 - record.number,
            params=params,
            distributions=distributions,
            values=self.objectives.values_of(numbers),
            user_attrs={RECIPE: record.recipe.to_dict(), COST: record.cost.to_dict()},
            constraints=self.objectives.violations(numbers),
        )


def _when_told(frozen: FrozenTrial) -> tuple[float, int]:
    told = frozen.datetime_complete
    return (told.timestamp() if told else math.inf, frozen.number)
