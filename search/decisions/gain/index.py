"""One number for every way to spend a worker's time: expected gain of the front per second.

Fresh, running and paused trials are compared by it. The gain is the hypervolume that a trial is
expected to add, given its known costs and what all learning curves say of its accuracy (of the
study's metric, here and below). The seconds are those that are left until its last epoch, by
arithmetic: what a clock measured differs from run to run, and the same study must decide the same
again.
"""

import functools
import math
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import TrialState
from scipy.stats import norm

from search.decisions.gain.catalogue import Candidate, CandidatePool, Catalogue
from search.decisions.gain.curves import CurveModel, IntArray, Points, Predicted
from search.decisions.gain.encoding import Encoding
from search.decisions.gain.first_design import spread_along
from search.decisions.gain.fresh import FreshRecipes
from search.decisions.gain.front_area import FrontArea
from search.decisions.stopping import StoppingContext
from search.decisions.trial_record import TrialRecord
from spaces.columns import FloatArray
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from trainables.costing.effort import Effort
from trainables.costing.figures import Cost
from trainables.learning.metrics import EpochMetrics

# Accuracies are weighed at these deviations from the mean. They reach far out: once all recipes are
# expected below the front, the small chance of being above it still ranks them.
DEVIATIONS = np.arange(-4, 4.5, 0.5)
_WEIGHTS = norm.pdf(DEVIATIONS) / norm.pdf(DEVIATIONS).sum()
# The model's cost is cubic in its rows, which are epochs of trials. Half are of trials that are
# over, so that there are curves to their end however many trials run.
_MOST_ROWS = 400
# The time between trials, in seconds (benchmarks/overhead.py).
TRIAL_SECONDS = 0.1
# Some proposals are random, so that no mistake of the model lasts.
_SHARE_AT_RANDOM = 0.07
# Candidates: drawn once for the search, drawn for each trial, and near the front's recipes.
_NUM_BASE, _NUM_DRAWN, _NUM_NEAR = 512, 192, 192
_AT_RANDOM = 1  # a stream of random numbers
_EARLIER = 10**9  # above the numbers of trials
# With many workers, the model is fitted again after this share of their number of events.
_EVENTS_A_FIT = 1 / 32

_Row = tuple[float, int, int, int, float]
"""Time, schedule, trial, data and accuracy of one observation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is expected of a trial."""

    gain: float
    """Hypervolume that it is expected to add to the front, as a share of the whole range."""
    left: float
    """Seconds until its last epoch, on a machine of ordinary speed."""
    price: float
    """The price of a trial, in seconds. Of one that has begun, at most what its epochs take in all.
    """
    accuracies: FloatArray
    """Its last accuracy at each of `DEVIATIONS`."""

    @property
    def rate(self) -> float:
        """Gain per second, with the price."""
        return self.gain / (self.left + self.price)

    @property
    def rate_once_paid(self) -> float:
        """Gain per second that is left: of a paused trial, once no new one may begin."""
        return self.gain / max(self.left, 1e-9)

    def accuracy_below(self, share: float) -> float:
        """The quantile of its last accuracy for a share from 0 to 1."""
        return float(np.interp(norm.ppf(share), DEVIATIONS, self.accuracies))


class GainIndex:
    """Keeps the model of accuracy up to date, and rates trials by it."""

    def __init__(
        self,
        *,
        space: SearchSpace,
        objectives: Objectives,
        foretell: Callable[[Recipe], Cost],
        effort: Callable[[Recipe], Effort],
        fresh: FreshRecipes,
        seed: int,
        context: StoppingContext,
    ) -> None:
        """foretell: a recipe's costs, without measuring. effort: the seconds that it takes.

        fresh: where candidates come from. seed: the study's.
        """
        self._encoding = Encoding(space.rules)
        self._objectives = objectives
        self._catalogue = Catalogue(
            encoding=self._encoding, objectives=objectives, foretell=foretell, effort=effort
        )
        self._of = self._catalogue.of
        self._num_costs = self._catalogue.num_costs
        self._source = fresh
        self._seed = seed
        self._context = context
        self._version = 0
        self._fitted: int | None = None
        self._records: dict[int, TrialRecord] = {}
        self._over: list[int] = []
        self._guides: set[int] = set()
        self._earlier_data: dict[str, int] = {}
        # Read only once something is asked: most samplers and rules never do.
        self._unread: dict[int, TrialRecord] = {}
        self._paid: set[str] = set()
        self._tried: set[str] = set()
        self._base: list[Recipe] = []
        self._first: list[Candidate] = []
        self._price = TRIAL_SECONDS
        self._cost_range = np.zeros(self._num_costs), np.ones(self._num_costs)
        # Of what the search began with, and of every trial.
        self._widest = np.full(self._num_costs, np.inf), np.full(self._num_costs, -np.inf)
        self._pool = CandidatePool([], self._num_costs)
        self._pool_basis: tuple[int, ...] = ()
        self._predicted_at: tuple[Any, ...] = ()
        self._rates = self._means = np.empty(0)
        self._accuracies = np.empty((0, len(DEVIATIONS)))
        self._running: dict[int, tuple[list[float], float]] = {}
        # Kept until the model is fitted again.
        self._foreseen: dict[int, tuple[int, FloatArray]] = {}
        self._average: float | None = None

    # What happened

    def note(self, record: TrialRecord) -> None:
        """Note that something changed about a trial: it began, reported, was paused or ended."""
        if record.recipe is None or record.cost is None:
            return
        self._records[record.number] = self._unread[record.number] = record
        if record.state.is_finished() and record.epochs and record.state != TrialState.FAIL:
            insort(self._over, record.number)
        self._version += 1

    def learn_from(self, record: TrialRecord) -> None:
        """Note a trial of an earlier run that is no result here; see `EarlierTrials.guides`."""
        self._guides.add(record.number)
        self.note(record)

    # What is asked

    def propose(self, number: int) -> Recipe | None:
        """The recipe for a new trial of this number; None if none is left that may begin."""
        fitted = self._fit_if_outdated()
        first = next((one for one in self._first if one.key not in self._tried), None)
        if first is not None:
            return first.recipe
        if not fitted:
            self._rate_fresh()
        free = np.flatnonzero(self._rates >= 0)
        if not len(free):
            return None
        rng = np.random.default_rng([self._seed, number, _AT_RANDOM])
        at_random = rng.random() < _SHARE_AT_RANDOM
        best = int(rng.choice(free) if at_random else self._rates.argmax())
        # Until the model is fitted again, others are rated as if this one ran already.
        self._running[number] = (self._pool.magnitudes[best].tolist(), float(self._means[best]))
        self._area = self._area_of([*self._front.values(), *self._running.values()])
        return self._pool.all[best].recipe

    @property
    def best_fresh_rate(self) -> float:
        """Of the candidates for a new trial."""
        self._fit_if_outdated()
        return float(self._rates.max(initial=0.0))

    def outlooks(self, records: Sequence[TrialRecord]) -> list[Outlook]:
        """What trials may still add that run, are paused, or are about to begin."""
        self._fit_if_outdated()
        if not records:
            return []
        foreseen = self._foresee(records)
        gains = self._gains(records, foreseen)
        found = []
        for record, gain, accuracies in zip(records, gains, foreseen, strict=True):
            recipe, effort = self._of(record).recipe, self._of(record).effort
            left = effort.left(recipe.epochs, done=len(record.epochs), paid=self._paid)
            price = self._price
            if record.epochs:
                # What it used up of the budget is spent. Some price is left, since what is expected
                # of a trial that is under way is too hopeful.
                price = min(price, effort.alone(recipe.epochs) + TRIAL_SECONDS)
            found.append(Outlook(gain=float(gain), left=left, price=price, accuracies=accuracies))
        return found

    @property
    def average_rate(self) -> float:
        """Of all trials so far: the area of their front, by their price and seconds."""
        self._fit_if_outdated()
        if self._average is None:
            spent = sum(
                self._price + len(record.epochs) * self._of(record).effort.epoch
                for record in self._records.values()
                if record.number >= 0 and not record.refused
            )
            empty = FrontArea(np.empty((0, self._num_costs)), np.empty(0), floor=self._floor)
            costs, accuracies = self._scaled_front()
            self._average = empty.whole_with(costs, accuracies) / spent if spent else 0.0
        return self._average

    def _scaled(self, magnitudes: FloatArray) -> FloatArray:
        """Costs from 0 to 1, over the range of the candidates and the trials."""
        low, high = self._cost_range
        rows = magnitudes.reshape(len(magnitudes), self._num_costs)
        return (rows - low) / np.where(high > low, high - low, 1.0)

    # The model

    def _fit_if_outdated(self) -> bool:
        """Returns whether it fitted the model anew, and so rated the candidates."""
        for record in self._unread.values():
            if record.number >= 0:  # those of earlier runs may come again: they cost nothing
                self._tried.add(record.key)
            known = self._of(record)
            if record.number in self._guides:
                continue  # its costs may be far outside, and its data was another
            if not record.refused:
                self._paid.update(known.effort.begun(len(record.epochs)))
            self._widen(np.array([known.magnitudes]))
        self._unread.clear()
        lag = int(len(self._context.running) * _EVENTS_A_FIT)
        if self._fitted is None:
            self._begin()
        elif self._version - self._fitted <= lag:
            return False
        self._fitted = self._version
        self._foreseen.clear()
        self._average = None
        self._fit_curves()
        self._set_pool()
        self._set_cost_range()
        self._set_front()
        self._rate_fresh()
        return True

    def _begin(self) -> None:
        """Decide what depends on the space and the seed alone, so that a resume decides it again.

        These are the range of the costs, the price of a trial, and the first trials.
        """
        first = self._source.first(self._seed)
        self._base = self._source.draw(self._seed, _NUM_BASE)
        self._catalogue.plan([*first, *self._base])
        pool = self._catalogue.pool([*first, *self._base], 0)
        self._widen(pool.magnitudes)
        self._set_cost_range()
        if pool.all:
            alone = [one.effort.alone(one.recipe.epochs) for one in pool.all]
            # Each trial uses up one of the budget, whatever seconds it takes, and so has a price.
            # Without one, a search of 16 trials spent 13 on the cheapest model, half a second each.
            self._price = TRIAL_SECONDS + float(np.median(alone))
        self._first = self._catalogue.look_up(first)
        if not self._first and pool.all and not any(number < 0 for number in self._over):
            costs = self._scaled(pool.magnitudes).sum(axis=1)
            chosen = spread_along(costs, self._seed)
            self._first = [pool.all[position] for position in chosen]

    def _set_pool(self) -> None:
        """Draw the candidates for the next trial: they depend on its number and on the front."""
        number = len(self._context.trials)
        front = [record for record in self._context.pareto_tracker.front() if record.recipe]
        basis = (number, *(record.number for record in front))
        if basis == self._pool_basis:
            return
        self._pool_basis = basis
        rng = np.random.default_rng([self._seed, number])
        seeds = rng.integers(2**31, size=2).tolist()
        recipes = [
            *self._base,
            *self._source.draw(seeds[0], _NUM_DRAWN),
            *self._source.near((one.recipe for one in front if one.recipe), seeds[1], _NUM_NEAR),
        ]
        self._pool = self._catalogue.pool(recipes, number, self._tried)

    def _widen(self, magnitudes: FloatArray) -> None:
        """magnitudes: (rows, costs), which the range of the costs is to hold from now on."""
        low, high = self._widest
        rows = magnitudes.reshape(len(magnitudes), self._num_costs)
        self._widest = np.vstack([low, rows]).min(axis=0), np.vstack([high, rows]).max(axis=0)

    def _set_cost_range(self) -> None:
        """That of the candidates and of all trials, so that none of them lies outside."""
        low, high = self._widest
        pool = self._pool.magnitudes
        low, high = np.vstack([low, pool]).min(axis=0), np.vstack([high, pool]).max(axis=0)
        if (low <= high).all():
            self._cost_range = low, high

    def _fit_curves(self) -> None:
        """Fit the model to rows of the front, the latest trials that are over, and open ones."""
        context = self._context
        front = sorted(record.number for record in context.pareto_tracker.front())
        ended = [*front, *self._over[::-1]]
        open_ones = [*sorted(context.paused), *sorted(context.running, reverse=True)]
        rows: dict[int, list[_Row]] = {}
        count = 0
        for numbers, most in (
            (ended, _MOST_ROWS // 2),
            (open_ones, _MOST_ROWS),
            (ended, _MOST_ROWS),
        ):
            for number in numbers:
                record = self._records.get(number)
                if number in rows or record is None or not record.epochs:
                    continue
                own = self._observations(record)
                if count + len(own) > most:
                    break
                rows[number] = own
                count += len(own)
        self._epochs_in_fit = {number: len(self._records[number].epochs) for number in rows}
        self._model = None
        if count:
            numbers = list(rows)
            points, accuracies = self._points(
                [(which, *row) for which, number in enumerate(numbers) for row in rows[number]],
                np.array([self._of(self._records[number]).point for number in numbers]),
            )
            self._model = CurveModel(self._encoding, points, accuracies)

    @staticmethod
    def _points(rows: Sequence[Any], recipes: FloatArray) -> tuple[Points, FloatArray]:
        which, times, schedules, trials, data, accuracies = map(np.array, zip(*rows, strict=True))
        points = Points(
            recipes=recipes, which=which, times=times, schedules=schedules, trials=trials, data=data
        )
        return points, accuracies

    def _observations(self, record: TrialRecord) -> list[_Row]:
        """What is known at a trial's milestones, and at its last epoch."""
        assert record.recipe is not None
        epochs, last = record.recipe.epochs, len(record.epochs)
        at = sorted({*(epoch for epoch in milestones_of(record.recipe) if epoch <= last), last})
        schedule = self._of(record).schedule
        # The model takes numbers below 0 for those of no trial.
        trial = record.number if record.number >= 0 else _EARLIER - record.number
        data = 0
        if record.data is not None:
            data = self._earlier_data.setdefault(record.data, len(self._earlier_data) + 1)
        return [
            (_time(epoch, epochs), schedule, trial, data, reached)
            for epoch in at
            if math.isfinite(reached := self._value(record.epochs[epoch - 1]))
        ]

    def _predict(self, points: Points) -> Predicted:
        if self._objectives.metric is None:
            return Predicted(mean=np.full(len(points), 20.0), deviation=np.zeros(len(points)))
        if self._model is None:
            return Predicted(mean=np.zeros(len(points)), deviation=np.full(len(points), 2.0))
        return self._model.predict(points)

    def _foresee(self, records: Sequence[TrialRecord]) -> FloatArray:
        """(trials, deviations): their last accuracies, given their own curves."""
        unseen = [
            record
            for record in records
            if self._foreseen.get(record.number, (-1,))[0] != len(record.epochs)
        ]
        if unseen:
            accuracies = self._of_records(unseen).accuracies(DEVIATIONS)
            for record, row in zip(unseen, accuracies, strict=True):
                self._foreseen[record.number] = (len(record.epochs), row)
        return np.array([self._foreseen[record.number][1] for record in records])

    def _of_records(self, records: Sequence[TrialRecord]) -> Predicted:
        ends = self._ends(records)
        rows = [
            (which, *row)
            for which, record in enumerate(records)
            for row in self._observations_since_fit(record)
        ]
        if not rows or self._model is None or self._objectives.metric is None:
            return self._predict(ends)
        return self._model.predict_given(ends, *self._points(rows, ends.recipes))

    def _observations_since_fit(self, record: TrialRecord) -> list[_Row]:
        in_fit = self._epochs_in_fit.get(record.number, 0)
        if len(record.epochs) <= in_fit:
            return []
        assert record.recipe is not None
        known = _time(in_fit, record.recipe.epochs) if in_fit else -1.0
        return [row for row in self._observations(record) if row[0] > known]

    def _ends(self, records: Sequence[TrialRecord]) -> Points:
        """The last epochs of trials."""
        return _last_epochs(
            np.array([self._of(record).point for record in records]),
            np.array([self._of(record).schedule for record in records]),
            np.array([record.number for record in records]),
        )

    # Gains

    def _set_front(self) -> None:
        context = self._context
        self._front = {
            record.number: (self._of(record).magnitudes, self._value(record.metrics))
            for record in context.pareto_tracker.front()
        }
        bounds = [bound.bound for bound in self._objectives.least_of_metric]
        chance = context.chance
        self._floor = max([*bounds, chance.value if chance is not None else 0.0])
        running = [self._records[number] for number in sorted(context.running)]
        self._running = {}
        if running:
            middles = np.median(self._foresee(running), axis=1)
            for record, mean in zip(running, middles, strict=True):
                self._running[record.number] = (self._of(record).magnitudes, float(mean))
        self._area = self._area_of([*self._front.values(), *self._running.values()])

    def _value(self, measured: EpochMetrics | Mapping[str, float]) -> float:
        """What a study wants more of, from 0 to 1. If it has only costs, all models are as good."""
        metric = self._objectives.metric
        return 1.0 if metric is None else measured[metric]

    def _scaled_front(self) -> tuple[FloatArray, FloatArray]:
        magnitudes = [pair[0] for pair in self._front.values()]
        return self._scaled(np.array(magnitudes)), np.array([p[1] for p in self._front.values()])

    def _gains(self, records: Sequence[TrialRecord], accuracies: FloatArray) -> FloatArray:
        """(trials,) what each would add to the front, with what the others that run will add."""
        costs = self._scaled(np.array([self._of(record).magnitudes for record in records]))
        gains = self._area.gains(costs, accuracies, _WEIGHTS)
        counted = list(self._running)
        edge = {counted[at - len(self._front)] for at in self._area.edge if at >= len(self._front)}
        for position, record in enumerate(records):
            if record.number in edge:  # it counts there itself
                others = [pair for other, pair in self._running.items() if other != record.number]
                area = self._area_of([*self._front.values(), *others])
                gains[position] = area.gains(costs[[position]], accuracies[[position]], _WEIGHTS)[0]
        return gains

    def _area_of(self, pairs: Sequence[tuple[list[float], float]]) -> FrontArea:
        magnitudes = np.array([pair[0] for pair in pairs])
        accuracies = np.array([pair[1] for pair in pairs])
        return FrontArea(self._scaled(magnitudes), accuracies, floor=self._floor)

    def _rate_fresh(self) -> None:
        """Rate the candidates; -1 where a trial has the recipe already."""
        pool = self._pool
        if not pool.all:
            self._rates = np.empty(0)
            return
        if self._predicted_at != (self._fitted, self._pool_basis):
            self._predicted_at = (self._fitted, self._pool_basis)
            no_trials = np.full(len(pool.all), -1)
            predicted = self._predict(_last_epochs(pool.points, pool.schedules, no_trials))
            self._accuracies = predicted.accuracies(DEVIATIONS)
            self._means = predicted.accuracies(np.zeros(1))[:, 0]
        gains = self._area.gains(self._scaled(pool.magnitudes), self._accuracies, _WEIGHTS)
        seconds = self._price + pool.seconds(self._paid)
        free = [one.key not in self._tried for one in pool.all]
        self._rates = np.where(free, gains / seconds, -1.0)


def _last_epochs(recipes: FloatArray, schedules: IntArray, trials: IntArray) -> Points:
    """The last epoch of each recipe. recipes: (points, dimensions)."""
    return Points(
        recipes=recipes,
        which=np.arange(len(recipes)),
        times=np.ones(len(recipes)),
        schedules=schedules,
        trials=trials,
        data=np.zeros(len(recipes), dtype=np.intp),
    )


@functools.cache
def milestones(epochs: int) -> tuple[int, ...]:
    """Epochs at which a trial is rated: 1, 2, 3, 4, 6, 9, ..., each 1.5 times the one before."""
    found = [1]
    while found[-1] < epochs:
        found.append(max(found[-1] + 1, math.floor(found[-1] * 1.5)))
    return tuple(epoch for epoch in found if epoch <= epochs)


def milestones_of(recipe: Recipe) -> tuple[int, ...]:
    """The milestones of its epochs; with qat, also before int8 is prepared and the file is made."""
    found = milestones(recipe.epochs)
    if not recipe.qat or recipe.epochs == 1:
        return found
    return tuple(sorted({*found, max(1, recipe.num_float_epochs), recipe.epochs - 1}))


def _time(epoch: int, epochs: int) -> float:
    """When in its training an epoch ends: 0 for the first, 1 for the last, by magnitude."""
    return math.log(epoch) / math.log(epochs) if epochs > 1 else 1.0
