"""Every trial of a study: asked for, followed, and told to Optuna exactly once.

Optuna's storage is the truth, and this is the only code that writes to it. A trial's recipe and
cost are stored before it starts and its outcome before it is told, so that whatever moment a
driver dies at, the next one knows what was finished and what has to go on. No Ray here.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

import optuna
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.trial import TrialState

from analysis.constraints import Constraint
from search.decisions.curve_extrapolation import CurveExtrapolation
from search.decisions.early_stopping import EarlyStopping
from search.decisions.pareto_tracker import ParetoTracker
from search.decisions.sampler_view import SamplerView
from search.decisions.warm_start import as_optuna_trial
from search.storage.trial_record import (
    COST,
    ENQUEUED,
    OUTCOME,
    RECIPE,
    RUNGS,
    TrialRecord,
    read_record,
)
from spaces.errors import UserError
from spaces.recipe import Recipe, recipe_from
from spaces.space import SearchSpace
from trainables.cost import Cost
from trainables.training import EpochMetrics

# So many failures and nothing finished: the study is wrong, not a recipe.
MAX_FAILURES_FROM_START = 8
# So many proposals in a row of which none could begin: a small space is used up, or its constraints
# leave nothing of it.
_MAX_REPEATS = 200
# Optuna's name for what the study took so far.
_SECONDS = "seconds_searched"


class SpaceExhaustedError(Exception):
    """The sampler proposes nothing but recipes that were tried, or that may not begin."""


class Ledger:
    """The trials of one study, in Optuna's storage and in memory."""

    def __init__(
        self,
        study: optuna.Study,
        *,
        space: SearchSpace,
        objectives: Mapping[str, str],
        sampler: str,
        sampler_of: Callable[[int], BaseSampler],
        measure: Callable[[Recipe], Cost],
        constraints: Sequence[Constraint] = (),
        stopping: EarlyStopping | None = None,
        earlier: Sequence[TrialRecord] = (),
        keep_dominated: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """measure: the cost of a recipe's model, before any training.

        sampler: its name, for what it is shown of the trials. sampler_of: what proposes the trial
        of a number, as made by `samplers.build_sampler`.
        constraints: on costs; a trial that breaks one never begins. stopping: compares trials at
        rungs; None: each runs all of its epochs. earlier: complete trials of earlier runs, with
        numbers below 0: their recipes are not trained again, and rungs compare with them.
        keep_dominated: trials that can't reach the front begin all the same, and no complete trial
        loses its checkpoint. clock: seconds from any moment on.
        """
        self.records: dict[int, TrialRecord] = {}
        self.pareto_tracker = ParetoTracker(objectives, keep_dominated=keep_dominated)
        self._keep_dominated = keep_dominated
        self._space = space
        self._sampler_of = sampler_of
        self._measure = measure
        self._constraints = tuple(constraints)
        self._stopping = stopping
        self._extrapolation = CurveExtrapolation()
        self._trials: dict[int, optuna.Trial] = {}
        self._interrupted: list[TrialRecord] = []
        # By recipe: the complete or stopped trial whose result another one would take over.
        self._results: dict[str, TrialRecord] = {}
        self._running: dict[str, int] = {}
        self._followers: dict[int, list[int]] = defaultdict(list)
        for record in earlier:
            self._results.setdefault(record.key, record)
            self._enter_rungs(record)
        self._study = SamplerView(
            study,
            sampler=sampler,
            objectives=list(objectives),
            warm=[self._as_known(record) for record in earlier],
        )
        self._clock = clock
        self._opened = clock() - study.user_attrs.get(_SECONDS, 0.0)
        trials = study.get_trials(deepcopy=False)
        for frozen in sorted(trials, key=_when_told):
            self._take_up(frozen)
        self.records = dict(sorted(self.records.items()))
        self._num_failed_before = self.pareto_tracker.counts[TrialState.FAIL]

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

        may_begin: whether the budget has room for another trial. A proposal whose recipe has a
        result takes that over at once, one that is being trained waits for that trial, one without
        a cost fails, and one that may not begin is pruned; then the next is asked for. None when
        the budget is used up. Raises SpaceExhaustedError after 200 of these in a row.
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

    def put_back(self, number: int) -> None:
        """Have `ask` hand out a running trial again: its process died, and it may go on."""
        self._interrupted.append(self.records[number])

    @property
    def is_idle(self) -> bool:
        """Whether no trial is being trained or waits to go on."""
        return not self._running

    def report(
        self, number: int, epochs: Iterable[EpochMetrics], *, ran_on: str | None = None
    ) -> bool:
        """Take up epochs of a running trial; whether it goes on, if there is more for it to do.

        A trial that early stopping ends here is told as pruned at once. Epochs that are known
        already change nothing, so a trial that went on from a checkpoint reports all of its own.
        ran_on: the machine.
        """
        record = self.records[number]
        if record.state != TrialState.RUNNING:
            return False
        record.add_machine(ran_on)
        record.add_epochs(epochs)
        ended = record.recipe is not None and len(record.epochs) == record.recipe.epochs
        for rung in self._new_rungs(record):
            accuracy = record.epochs[rung - 1].accuracy
            assert self._stopping is not None
            schedule = record.schedule
            self._stopping.enter(
                rung, schedule, number, self.pareto_tracker.losses(record, accuracy)
            )
            beyond_front = partial(self.pareto_tracker.could_reach_front, record, accuracy)
            if not ended and not self._stopping.should_continue(
                rung, schedule, number, beyond_front=beyond_front
            ):
                self._tell(record, TrialState.PRUNED)
                return False
            record.rungs[rung] = accuracy
            # What the others are compared with has to survive this driver.
            self._trials[number].set_user_attr(RUNGS, record.rungs)
        if record.rungs and not ended and not self._may_reach_front(record):
            self._tell(record, TrialState.PRUNED)
            return False
        return True

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
        """Complete trials that none other dominates; see `Standing.front`."""
        return self.pareto_tracker.front()

    def should_abort(self) -> bool:
        """Whether enough has failed since this ledger was opened, and nothing has come of any."""
        num_failed = self.pareto_tracker.counts[TrialState.FAIL] - self._num_failed_before
        if num_failed < MAX_FAILURES_FROM_START or self.pareto_tracker.counts[TrialState.COMPLETE]:
            return False
        return not any(
            record.epochs and record.state != TrialState.FAIL for record in self.records.values()
        )

    def in_state(self, *states: TrialState) -> list[TrialRecord]:
        """Trials in one of the states, by number."""
        return [record for record in self.records.values() if record.state in states]

    @property
    def num_begun(self) -> int:
        """Trials that count in the budget: all but those that were never allowed to begin."""
        return len(self.records) - self.pareto_tracker.num_refused

    @property
    def worker_seconds(self) -> float:
        """Time in epochs, over all trials and sessions."""
        running = (self.records[number] for number in self._running.values())
        return self.pareto_tracker.seconds + sum(record.seconds for record in running)

    @property
    def seconds_searched(self) -> float:
        """Wall time of the search, over all of its sessions."""
        return self._clock() - self._opened

    def save_seconds_searched(self) -> None:
        """Store it, for the next session to go on from."""
        self._study.set_user_attr(_SECONDS, self.seconds_searched)

    def _propose(self) -> TrialRecord | None:
        """Ask Optuna and store what it proposed; None where the trial is over already."""
        self._study.sampler = self._sampler_of(len(self.records))
        trial = self._study.ask()
        record = TrialRecord(number=trial.number)
        self.records[trial.number] = record
        self._trials[trial.number] = trial
        return record if self._draw(record) and self._is_admitted(record) else None

    def _draw(self, record: TrialRecord) -> bool:
        """Draw a trial's recipe, or what a driver that died left of it undrawn, and store it."""
        trial = self._trials[record.number]
        try:
            record.recipe = self._recipe_of(trial)
        except UserError as error:
            # Fields that fit each other so seldom badly that reading the space did not find it.
            self.fail(record.number, f"drawn fields do not fit each other: {error}")
            return False
        trial.set_user_attr(RECIPE, record.recipe.to_dict())
        return True

    def _is_admitted(self, record: TrialRecord) -> bool:
        """Whether a trial may begin: its cost is known, and neither too high nor in vain."""
        return (record.cost is not None or self._measure_cost(record)) and not self._is_refused(
            record
        )

    def _recipe_of(self, trial: optuna.Trial) -> Recipe:
        enqueued = trial.user_attrs.get(ENQUEUED)
        if enqueued is None:
            return self._space.suggest(trial)
        recipe = recipe_from(enqueued)
        sampler = self._study.sampler
        if isinstance(sampler, BaseGASampler):
            # Optuna gives a generation only to trials that it drew; without one, no child of NSGA's
            # would ever have this recipe for a parent.
            frozen = self._study.get_trials(deepcopy=False)[trial.number]
            sampler.get_trial_generation(self._study, frozen)
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

    def _as_known(self, record: TrialRecord) -> optuna.trial.FrozenTrial:
        constraints = {
            constraint.column: constraint.violation(getattr(record.cost, constraint.column))
            for constraint in self._constraints
        }
        values = self.pareto_tracker.values(record)
        return as_optuna_trial(record, self._space, values=values, constraints=constraints)

    def _is_refused(self, record: TrialRecord) -> bool:
        """Prune a trial that may not begin, with the reason."""
        trial = self._trials[record.number]
        broken = []
        for constraint in self._constraints:
            value = getattr(record.cost, constraint.column)
            violation = constraint.violation(value)
            if constraint.column not in trial.constraints:
                # Samplers that know constraints learn from those that hold too.
                trial.set_constraint(constraint.column, violation)
            if violation > 0:
                broken.append(f"{constraint.column} is {value:.4g}, which breaks {constraint}")
        in_vain = not self._keep_dominated and not self.pareto_tracker.could_reach_front(record)
        if not broken and in_vain:
            broken.append("others have an accuracy of 1 at a lower cost")
        if not broken:
            return False
        record.error = "; ".join(broken)
        self._tell(record, TrialState.PRUNED)
        return True

    def _may_reach_front(self, record: TrialRecord) -> bool:
        """Whether the front leaves room for what a running trial may still become."""
        assert self._stopping is not None
        if not self._stopping.outlook:
            return True
        accuracy = self._extrapolation.best_accuracy(record)
        return self.pareto_tracker.could_reach_front(record, accuracy)

    def _new_rungs(self, record: TrialRecord) -> list[int]:
        """Rungs that a trial has come to and was not compared at, the last epoch left out."""
        if self._stopping is None or record.recipe is None:
            return []
        return [
            rung
            for rung in self._stopping.rungs(record.recipe.epochs)
            if rung <= len(record.epochs) and rung not in record.rungs
        ]

    def _is_new(self, record: TrialRecord) -> bool:
        key = record.key
        if key in self._results:
            self._reuse(record, self._results[key])
            return False
        if key in self._running:
            self._followers[self._running[key]].append(record.number)
            return False
        return True

    def _reuse(self, record: TrialRecord, source: TrialRecord) -> None:
        record.reused = source.number
        record.accuracy = source.accuracy
        self._tell(record, source.state)

    def _tell(self, record: TrialRecord, state: TrialState) -> None:
        assert record.state == TrialState.RUNNING, f"trial {record.number} is told twice"
        record.search_seconds = self.seconds_searched
        self._trials[record.number].set_user_attr(OUTCOME, record.outcome(state))
        self._close(record, state)
        for follower in self._followers.pop(record.number, []):
            self._settle(self.records[follower], record)

    def _settle(self, follower: TrialRecord, leader: TrialRecord) -> None:
        if leader.state == TrialState.FAIL:
            self.fail(follower.number, f"as trial {leader.number}: {leader.error}")
        else:
            self._reuse(follower, leader)

    def _close(self, record: TrialRecord, state: TrialState) -> None:
        """Set the trial's last state, in Optuna and here."""
        record.state = state
        values = self.pareto_tracker.values(record) if state == TrialState.COMPLETE else None
        self._study.tell(record.number, values, state=state)
        if record.recipe is not None and self._running.get(record.key) == record.number:
            del self._running[record.key]
        self._take_in(record)

    def _take_in(self, record: TrialRecord) -> None:
        self.pareto_tracker.take_in(record)
        if record.state == TrialState.COMPLETE:
            self._extrapolation.learn(record)
        if record.state != TrialState.FAIL and not record.refused:
            self._results.setdefault(record.key, record)

    def _enter_rungs(self, record: TrialRecord) -> None:
        """Have a trial of an earlier session compared with, at every rung that it came to."""
        if self._stopping is None or record.recipe is None or record.cost is None:
            return
        reached = {metrics.epoch: metrics.accuracy for metrics in record.epochs} | record.rungs
        for rung in self._stopping.rungs(record.recipe.epochs):
            if rung in reached:
                losses = self.pareto_tracker.losses(record, reached[rung])
                self._stopping.enter(rung, record.schedule, record.number, losses)

    def _take_up(self, frozen: optuna.trial.FrozenTrial) -> None:
        """Read a trial back from the storage, and finish telling it where that was cut off."""
        if frozen.state == TrialState.WAITING:
            return
        record, outcome = read_record(frozen)
        self.records[record.number] = record
        self._enter_rungs(record)
        if record.state.is_finished():
            self._take_in(record)
            return
        self._study.sampler = self._sampler_of(record.number)
        self._trials[record.number] = optuna.Trial(self._study, frozen._trial_id)
        if outcome is not None:
            self._close(record, outcome)
        elif (
            (RECIPE in frozen.user_attrs or self._draw(record))
            and self._is_admitted(record)
            and self._is_new(record)
        ):
            self._interrupted.append(record)
            self._running[record.key] = record.number


def _when_told(frozen: optuna.trial.FrozenTrial) -> tuple[float, int]:
    """Trials that were told come in the order in which they were, those that were not last."""
    message = frozen.datetime_complete
    return (message.timestamp() if message else math.inf, frozen.number)
