"""Every trial of a study: asked for, followed, and told to Optuna exactly once.

Optuna's storage is the truth, and this is the only code that writes to it. A trial's recipe and
cost are stored before it starts and its outcome before it is told, so that whatever moment a
driver dies at, the next one knows what was finished and what has to go on. No Ray here.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

import optuna
from optuna.samplers import BaseGASampler
from optuna.trial import TrialState

from analysis.columns import ACCURACY
from search.samplers import build_sampler
from search.trial_record import COST, ENQUEUED, OUTCOME, RECIPE, TrialRecord, read_record
from spaces.errors import UserError
from spaces.recipe import Recipe, recipe_from
from spaces.space import SearchSpace
from trainables.cost import Cost

# So many failures and nothing finished: the study is wrong, not a recipe.
MAX_FAILURES_FROM_START = 8
# So many proposals in a row that were all tried already: a small space is used up.
_MAX_REPEATS = 200


class SpaceExhaustedError(Exception):
    """The sampler proposes nothing but recipes that are finished."""


class Ledger:
    """The trials of one study, in Optuna's storage and in memory."""

    def __init__(
        self,
        study: optuna.Study,
        *,
        space: SearchSpace,
        objectives: Mapping[str, str],
        sampler: str,
        seed: int,
        measure: Callable[[Recipe], Cost],
    ) -> None:
        """measure: the cost of a recipe's model, before any training."""
        self.records: dict[int, TrialRecord] = {}
        self._study = study
        self._space = space
        self._objectives = dict(objectives)
        self._sampler = sampler
        self._seed = seed
        self._measure = measure
        self._trials: dict[int, optuna.Trial] = {}
        self._interrupted: list[TrialRecord] = []
        self._finished: dict[str, TrialRecord] = {}
        self._running: dict[str, int] = {}
        self._followers: dict[int, list[int]] = defaultdict(list)
        self._front: list[TrialRecord] = []
        for frozen in study.get_trials(deepcopy=False):
            self._take_up(frozen)
        self._num_failed_before = len(self.in_state(TrialState.FAIL))

    def enqueue(self, recipes: Iterable[Recipe]) -> None:
        """Have these recipes proposed before any that the sampler draws, each of them once."""
        trials = self._study.get_trials(deepcopy=False)
        known = [trial.user_attrs.get(ENQUEUED) for trial in trials]
        for recipe in recipes:
            if recipe.to_dict() not in known:
                self._study.enqueue_trial(
                    self._space.params_of(recipe), user_attrs={ENQUEUED: recipe.to_dict()}
                )

    def ask(self, *, may_begin: Callable[[], bool]) -> TrialRecord | None:
        """The next trial to run: one that was interrupted, or a new one.

        may_begin: whether the budget has room for another trial. A proposal that is finished
        already takes its result over at once, one that is being trained waits for that trial, and
        one without a cost fails; each counts as a trial, and the next is asked for. None when the
        budget is used up. Raises SpaceExhaustedError after 200 repetitions in a row.
        """
        if self._interrupted:
            record = self._interrupted.pop(0)
            self._running[record.key] = record.number
            return record
        for _ in range(_MAX_REPEATS):
            if not may_begin():
                return None
            record = self._propose()
            if record is not None and self._is_new(record):
                self._running[record.key] = record.number
                return record
        raise SpaceExhaustedError

    def complete(self, number: int, *, checkpoint: str | None = None) -> None:
        """Tell a trial that ran all its epochs; one without a finite accuracy fails."""
        record = self.records[number]
        accuracy = record.epochs[-1].accuracy if record.epochs else math.nan
        if not math.isfinite(accuracy):
            self.fail(number, f"ended with an accuracy of {accuracy}")
            return
        record.checkpoint = checkpoint  # kept as long as the trial is on the front
        record.accuracy = accuracy
        self._tell(record, TrialState.COMPLETE)

    def fail(self, number: int, reason: str) -> None:
        """Tell a trial that came to nothing: recorded with its reason, never scored."""
        record = self.records[number]
        record.error = reason
        self._tell(record, TrialState.FAIL)

    def front(self) -> list[TrialRecord]:
        """Complete trials that none other dominates, the cheapest by the last objective first.

        Of trials with the same recipe, only the one that was trained.
        """
        return sorted(self._front, key=lambda record: self._losses(record)[::-1])

    def gives_up(self) -> bool:
        """Whether enough has failed since this ledger was opened, and nothing has come of any."""
        num_failed = len(self.in_state(TrialState.FAIL)) - self._num_failed_before
        return num_failed >= MAX_FAILURES_FROM_START and not any(
            record.state == TrialState.COMPLETE
            or (record.state == TrialState.RUNNING and record.epochs)
            for record in self.records.values()
        )

    def in_state(self, *states: TrialState) -> list[TrialRecord]:
        """Trials in one of the states, by number."""
        return [record for record in self.records.values() if record.state in states]

    @property
    def seconds_searched(self) -> float:
        """Wall time of the search, over all of its sessions; set it as the search goes."""
        return self._study.user_attrs.get("seconds_searched", 0.0)

    @seconds_searched.setter
    def seconds_searched(self, seconds: float) -> None:
        self._study.set_user_attr("seconds_searched", seconds)

    def _propose(self) -> TrialRecord | None:
        """Ask Optuna and store what it proposed; None where the trial has failed already."""
        self._study.sampler = build_sampler(
            self._sampler, seed=self._seed, trial_number=len(self.records)
        )
        trial = self._study.ask()
        self._trials[trial.number] = trial
        record = TrialRecord(number=trial.number)
        self.records[trial.number] = record
        try:
            record.recipe = self._recipe_of(trial)
        except UserError as error:
            # Fields that fit each other so seldom badly that reading the space did not find it.
            self.fail(record.number, f"drawn fields do not fit each other: {error}")
            return None
        trial.set_user_attr(RECIPE, record.recipe.to_dict())
        return record if self._measure_cost(record) else None

    def _recipe_of(self, trial: optuna.Trial) -> Recipe:
        enqueued = trial.user_attrs.get(ENQUEUED)
        if enqueued is None:
            return self._space.suggest(trial)
        recipe = recipe_from(enqueued)
        sampler = self._study.sampler
        if isinstance(sampler, BaseGASampler):
            # Optuna gives a generation only to trials that it drew; without one, no child of NSGA's
            # would ever have this recipe for a parent.
            sampler.get_trial_generation(self._study, self._study.trials[trial.number])
        # Drawing what was fixed tells the sampler which parameters the recipe has.
        for name in self._space.params_of(recipe):
            self._space.rules[name].dimension.suggest(trial, name)
        return recipe

    def _measure_cost(self, record: TrialRecord) -> bool:
        assert record.recipe is not None
        try:
            record.cost = self._measure(record.recipe)
        except UserError as error:
            self.fail(record.number, str(error))
            return False
        self._trials[record.number].set_user_attr(COST, asdict(record.cost))
        return True

    def _is_new(self, record: TrialRecord) -> bool:
        key = record.key
        if key in self._finished:
            self._reuse(record, self._finished[key])
            return False
        if key in self._running:
            self._followers[self._running[key]].append(record.number)
            return False
        return True

    def _reuse(self, record: TrialRecord, source: TrialRecord) -> None:
        record.reused = source.number
        record.accuracy = source.accuracy
        self._tell(record, TrialState.COMPLETE)

    def _tell(self, record: TrialRecord, state: TrialState) -> None:
        assert record.state == TrialState.RUNNING, f"trial {record.number} is told twice"
        self._trials[record.number].set_user_attr(OUTCOME, record.outcome(state))
        self._close(record, state)
        for follower in self._followers.pop(record.number, []):
            self._settle(self.records[follower], record)

    def _settle(self, follower: TrialRecord, leader: TrialRecord) -> None:
        if leader.state == TrialState.COMPLETE:
            self._reuse(follower, leader)
        else:
            self.fail(follower.number, f"as trial {leader.number}: {leader.error}")

    def _close(self, record: TrialRecord, state: TrialState) -> None:
        """Set the trial's last state, in Optuna and here."""
        record.state = state
        if state == TrialState.COMPLETE:
            self._study.tell(record.number, self._values(record))
            self._take_in(record)
        else:
            self._study.tell(record.number, state=state)
        self._running = {key: n for key, n in self._running.items() if n != record.number}

    def _take_in(self, record: TrialRecord) -> None:
        """Let a complete trial answer for its recipe, and stand on the front as long as it may."""
        self._finished.setdefault(record.key, record)
        record.checkpoint, kept = None, record.checkpoint
        losses = self._losses(record)
        if record.reused is not None or any(
            _dominates(self._losses(other), losses) for other in self._front
        ):
            return
        record.checkpoint = kept
        for other in self._front:
            if _dominates(losses, self._losses(other)):
                other.checkpoint = None
        self._front = [r for r in self._front if not _dominates(losses, self._losses(r))]
        self._front.append(record)

    def _values(self, record: TrialRecord) -> list[float]:
        values = []
        for name in self._objectives:
            of_cost = name != ACCURACY
            values.append(float(getattr(record.cost if of_cost else record, name)))
        return values

    def _losses(self, record: TrialRecord) -> list[float]:
        ways = self._objectives.values()
        values = zip(self._values(record), ways, strict=True)
        return [-value if way == "max" else value for value, way in values]

    def _take_up(self, frozen: optuna.trial.FrozenTrial) -> None:
        """Read a trial back from the storage, and finish telling it where that was cut off."""
        if frozen.state == TrialState.WAITING:
            return
        record, outcome = read_record(frozen)
        self.records[record.number] = record
        self._trials[record.number] = optuna.Trial(self._study, frozen._trial_id)
        if record.state == TrialState.COMPLETE:
            self._take_in(record)
        elif record.state.is_finished():
            return
        elif outcome is not None:
            self._close(record, outcome)
        elif record.recipe is None:
            self.fail(record.number, "the search was stopped before the recipe was drawn")
        elif (record.cost or self._measure_cost(record)) and self._is_new(record):
            self._interrupted.append(record)
            self._running[record.key] = record.number


def _dominates(losses: list[float], others: list[float]) -> bool:
    """Whether the first are nowhere larger and somewhere smaller."""
    return losses != others and all(a <= b for a, b in zip(losses, others, strict=True))
