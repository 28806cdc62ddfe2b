"""One number for every way to spend a worker's time: expected gain of the front per second.

Fresh, running and paused trials are compared by it. The gain is the hypervolume that a trial is
expected to add, given its known costs and what all learning curves say of its accuracy. The seconds
are those that are left until its last epoch.
"""

import functools
import os
import math
from bisect import insort
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from optuna.trial import TrialState
from scipy.stats import norm

from search.decisions.gain.curves import CurveModel, Points, Predicted
from search.decisions.gain.effort import Effort
from search.decisions.gain.encoding import Encoding
from search.decisions.gain.fresh import FreshRecipes
from search.decisions.gain.front_area import FrontArea
from search.decisions.gain.seconds import EpochSeconds
from search.decisions.stopping import StoppingContext
from search.decisions.trial_record import TrialRecord
from spaces.columns import FloatArray
from spaces.errors import UserError
from spaces.objectives import Objectives
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from trainables.costing.figures import Cost

_QUANTILES = norm.ppf((np.arange(12) + 0.5) / 12)
_MOST_ROWS = 400
_TRIAL_SECONDS = 0.1
def _X(name, default):
    return float(os.environ.get("FW_" + name, default))
_NUM_FIRST = _X("NF", 8)
_SHARE_AT_RANDOM = _X("RND", 0.07)
_NUM_BASE, _NUM_DRAWN, _NUM_NEAR = 512, 256, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is expected of a trial."""

    gain: float
    """Hypervolume that it is expected to add to the front."""
    seconds: float
    """Left until its last epoch."""
    accuracies: tuple[float, ...]
    """Quantiles of its last accuracy."""

    @property
    def rate(self) -> float:
        return self.gain / self.seconds**_X("A", 1.0)


class _Candidate(NamedTuple):
    """What is known of a recipe before training."""

    recipe: Recipe
    key: str
    point: FloatArray
    costs: list[float]
    schedule: int
    effort: Effort


class _Candidates:
    """Candidates as arrays."""

    def __init__(self, candidates: Sequence[_Candidate]) -> None:
        self.all = list(candidates)
        self.points = np.array([one.point for one in candidates])
        self.costs = np.array([one.costs for one in candidates])
        self.schedules = np.array([one.schedule for one in candidates], dtype=np.intp)
        self.efforts = np.array([one.effort.epoch for one in candidates])
        self.epochs = np.array([one.recipe.epochs for one in candidates])


class GainIndex:
    """Keeps the model of accuracy up to date, and rates trials by it."""

    def __init__(
        self,
        *,
        space: SearchSpace,
        objectives: Objectives,
        measure: Callable[[Recipe], Cost],
        effort: Callable[[Recipe], Effort],
        fresh: FreshRecipes,
        seed: int,
        context: StoppingContext,
    ) -> None:
        self.encoding = Encoding(space.rules)
        self.effort_of = effort
        self._objectives = objectives
        self._measure = measure
        self._source = fresh
        self._seed = seed
        self._context = context
        self._version = 0
        self._fitted = -1
        self._schedules: dict[str, int] = {}
        self._own: dict[int, _Candidate] = {}
        self._over: list[int] = []
        self._shared: set[str] = set()
        self._tried: set[str] = set()
        self._known: dict[Recipe, _Candidate | None] = {}
        self._base: list[_Candidate] = []
        self._candidates = _Candidates([])

    # What happened

    def note(self) -> None:
        """Something changed: a trial began, ended, or reported."""
        self._version += 1

    def end(self, record: TrialRecord) -> None:
        """Note that a trial is over."""
        if record.epochs and record.recipe is not None and record.state != TrialState.FAIL:
            insort(self._over, record.number)
        self.note()

    def begin(self, record: TrialRecord) -> None:
        self._tried.add(record.key)
        assert record.recipe is not None
        shared = self._of(record).effort.shared
        if shared is not None:
            self._shared.add(shared)
        self.note()

    # Encoding

    def schedule(self, recipe: Recipe) -> int:
        return self._schedules.setdefault(recipe.scheduler, len(self._schedules))

    def cost_of(self, recipe: Recipe) -> list[float] | None:
        """Magnitudes of the costs that are objectives; None if a bound excludes the recipe."""
        try:
            cost = self._measure(recipe)
        except UserError:
            return None
        figures = cost.figures
        for bound in self._objectives.constraints:
            if not bound.is_of_a_metric and bound.violation(figures.get(bound.column)) > 0:
                return None
        return self._magnitudes(figures)

    def _magnitudes(self, figures: Any) -> list[float]:
        found = []
        for name, way in self._objectives.items():
            if name != self._objectives.metric:
                value = figures[name]
                value = math.log(max(value, 1e-12))
                found.append(-value if way == "max" else value)
        return found

    def _scaled(self, costs: FloatArray) -> FloatArray:
        low, high = self._cost_range
        return (costs - low) / np.where(high > low, high - low, 1.0)

    # The model

    def _refresh(self) -> None:
        lag = len(self._context.running) // 32
        if self._fitted >= 0 and self._version - self._fitted <= lag:
            return
        self._fitted = self._version
        self._fit()

    def _fit(self) -> None:
        context = self._context
        if not self._base:
            self._base = self._look_up(self._source.draw(self._seed, _NUM_BASE))
            costs = np.array([one.costs for one in self._base])
            self._cost_range = costs.min(axis=0), costs.max(axis=0)
            self._candidates = _Candidates(self._base)
        front = context.pareto_tracker.front()
        chosen = [record.number for record in front if record.epochs and record.number >= 0]
        chosen += [n for n in sorted(context.paused)]
        chosen += [n for n in sorted(context.running, reverse=True)]
        chosen += self._over[::-1]
        rows: list[tuple[int, int, float, int, int, float]] = []
        records = []
        self._row_count: dict[int, int] = {}
        seen = set()
        for number in chosen:
            record = context.trials[number]
            if number in seen or not record.epochs:
                continue
            seen.add(number)
            own = self._observations(record)
            if len(rows) + len(own) > _MOST_ROWS:
                break
            which = len(records)
            records.append(record)
            rows += [(which, *row) for row in own]
        self._records = records
        self._in_fit = {record.number: len(record.epochs) for record in records}
        self._fit_seconds(records)
        if not rows:
            self._model = None
        else:
            which, times, schedules, trials, accuracies = map(np.array, zip(*rows, strict=True))
            points = np.array([self._of(record).point for record in records])
            self._model = CurveModel(
                self.encoding,
                Points(
                    recipes=points, which=which, times=times, schedules=schedules, trials=trials
                ),
                accuracies,
            )
        self._set_front()
        self._rate_fresh()
        self._paused_outlooks: dict[int, Outlook] | None = None

    def _look_up(self, recipes: Iterable[Recipe]) -> list[_Candidate]:
        """What is known of recipes, without those that break a bound or were tried."""
        found = {}
        for recipe in recipes:
            if recipe not in self._known:
                self._known[recipe] = self._new(recipe)
            candidate = self._known[recipe]
            if candidate is not None and candidate.key not in self._tried:
                found[candidate.key] = candidate
        return list(found.values())

    def _new(self, recipe: Recipe) -> _Candidate | None:
        costs = self.cost_of(recipe)
        if costs is None:
            return None
        return _Candidate(
            recipe=recipe,
            key=recipe.key,
            point=self.encoding.encode([recipe.to_dict()])[0],
            costs=costs,
            schedule=self.schedule(recipe),
            effort=self.effort_of(recipe),
        )

    def _of(self, record: TrialRecord) -> _Candidate:
        """What is known of a trial's recipe, whatever bounds it breaks."""
        if record.number not in self._own:
            assert record.recipe is not None
            self._own[record.number] = _Candidate(
                recipe=record.recipe,
                key=record.key,
                point=self.encoding.encode([record.recipe.to_dict()])[0],
                costs=self._record_costs(record),
                schedule=self.schedule(record.recipe),
                effort=self.effort_of(record.recipe),
            )
        return self._own[record.number]

    def _observations(self, record: TrialRecord) -> list[tuple[float, int, int, float]]:
        assert record.recipe is not None
        epochs = record.recipe.epochs
        last = len(record.epochs)
        at = [epoch for epoch in milestones(epochs) if epoch <= last]
        if last not in at:
            at.append(last)
        schedule = self._of(record).schedule
        return [
            (time_of(epoch, epochs), schedule, record.number, record.epochs[epoch - 1].accuracy)
            for epoch in at
            if math.isfinite(record.epochs[epoch - 1].accuracy)
        ]

    def _fit_seconds(self, records: Sequence[TrialRecord]) -> None:
        self._seconds = None
        if records and os.environ.get("FW_SEC") != "arith":
            points = self._plain(np.array([self._of(record).point for record in records]))
            efforts = np.array([self._of(record).effort.epoch for record in records])
            seconds = np.array([_epoch_seconds(record) for record in records])
            self._seconds = EpochSeconds(points, efforts, seconds)

    def _plain(self, points: FloatArray) -> FloatArray:
        return self.encoding.linear(points)

    def _predict(self, points: FloatArray, schedules: Any, trials: Any) -> Predicted:
        if self._model is None:
            return Predicted(mean=np.zeros(len(points)), deviation=np.full(len(points), 2.0))
        return self._model.predict(
            Points(
                recipes=points,
                which=np.arange(len(points)),
                times=np.ones(len(points)),
                schedules=schedules,
                trials=trials,
            )
        )

    def _of_records(self, records: Sequence[TrialRecord]) -> Predicted:
        return self._predict(
            np.array([self._of(record).point for record in records]),
            np.array([self._of(record).schedule for record in records]),
            np.array([record.number for record in records]),
        )

    # Gains

    def _set_front(self) -> None:
        context = self._context
        front = context.pareto_tracker.front()
        self._front_costs = [self._record_costs(record) for record in front]
        self._front_accuracies = [record.accuracy or 0.0 for record in front]
        running = [context.trials[n] for n in sorted(context.running)]
        running = [r for r in running if r.recipe is not None and r.cost is not None]
        self._running = {}
        if running:
            predicted = self._of_records(running)
            means = predicted.accuracies(np.zeros(1))[:, 0]
            for record, mean in zip(running, means, strict=True):
                self._running[record.number] = (self._record_costs(record), float(mean))
        chance = context.chance
        self._floor = chance.accuracy if chance is not None else 0.0
        self._area = self._area_without(None)

    def _area_without(self, number: int | None) -> FrontArea:
        others = [pair for n, pair in self._running.items() if n != number]
        costs = [*self._front_costs, *(cost for cost, _ in others)]
        accuracies = [*self._front_accuracies, *(mean for _, mean in others)]
        num_costs = len(self._objectives) - 1
        return FrontArea(
            self._scaled(np.array(costs).reshape(len(costs), num_costs)),
            np.array(accuracies),
            floor=self._floor,
        )

    def _record_costs(self, record: TrialRecord) -> list[float]:
        assert record.cost is not None
        return self._magnitudes(record.cost.figures)

    def _rate_fresh(self) -> None:
        pool = self._candidates
        if not pool.all:
            self._rates = np.empty(0)
            return
        trials = np.full(len(pool.all), -1, dtype=np.intp)
        predicted = self._predict(pool.points, pool.schedules, trials)
        gains = self._area.gains(self._scaled(pool.costs), predicted.accuracies(_QUANTILES))
        free = np.array([one.key not in self._tried for one in pool.all])
        self._rates = np.where(free, gains / self._fresh_seconds(pool) ** _X("A", 1.0), -1.0)

    def _fresh_seconds(self, pool: _Candidates) -> FloatArray:
        once = np.array(
            [
                0.0 if one.effort.shared in self._shared else one.effort.once
                for one in pool.all
            ]
        )
        if self._seconds is None:
            epoch = pool.efforts
        else:
            epoch = self._seconds.of(self._plain(pool.points), pool.efforts)
        return _TRIAL_SECONDS + epoch * pool.epochs + once * epoch / pool.efforts

    @property
    def best_fresh_rate(self) -> float:
        self._refresh()
        return float(self._rates.max(initial=0.0))

    def propose(self, number: int) -> Recipe | None:
        """The recipe of a new trial."""
        self._refresh()
        rng = np.random.default_rng([self._seed, number])
        front = [record.recipe for record in self._context.pareto_tracker.front() if record.recipe]
        drawn = self._source.draw(int(rng.integers(2**31)), _NUM_DRAWN)
        near = self._source.near(front, int(rng.integers(2**31)), _NUM_NEAR)
        base = [one for one in self._base if one.key not in self._tried]
        own = {one.key: one for one in [*base, *self._look_up([*drawn, *near])]}
        self._candidates = _Candidates(list(own.values()))
        self._rate_fresh()
        if not (self._rates >= 0).any():
            return None
        if number < _NUM_FIRST or rng.random() < _SHARE_AT_RANDOM:
            free = np.flatnonzero(self._rates >= 0)
            best = int(rng.choice(free))
        else:
            best = int(self._rates.argmax())
        return self._candidates.all[best].recipe

    def outlook(self, record: TrialRecord) -> Outlook:
        """What a running or paused trial may still add."""
        return self.outlooks([record])[0]

    def outlooks(self, records: Sequence[TrialRecord]) -> list[Outlook]:
        self._refresh()
        predicted = self._of_records(records)
        accuracies = predicted.accuracies(_QUANTILES)
        found = []
        for record, quantiles in zip(records, accuracies, strict=True):
            area = self._area_without(record.number) if record.number in self._running else self._area
            costs = self._scaled(np.array([self._record_costs(record)]))
            gain = float(area.gains(costs, quantiles[None])[0])
            found.append(
                Outlook(
                    gain=gain, seconds=self._seconds_left(record), accuracies=tuple(quantiles)
                )
            )
        return found

    def _seconds_left(self, record: TrialRecord) -> float:
        assert record.recipe is not None
        left = record.recipe.epochs - len(record.epochs)
        if os.environ.get("FW_SEC") == "arith":
            return _TRIAL_SECONDS + left * self._of(record).effort.epoch
        return _TRIAL_SECONDS + left * _epoch_seconds(record)

    def best_paused(self, records: Sequence[TrialRecord]) -> tuple[TrialRecord, Outlook] | None:
        if not records:
            return None
        self._refresh()
        outlooks = self.outlooks(records)
        best = max(range(len(records)), key=lambda i: outlooks[i].rate)
        return records[best], outlooks[best]

    @property
    def front_area(self) -> float:
        """Of the front so far."""
        self._refresh()
        empty = FrontArea(
            np.empty((0, len(self._objectives) - 1)), np.empty(0), floor=self._floor
        )
        return 1.0


@functools.cache
def milestones(epochs: int) -> list[int]:
    """1, 2, 3, 5, 8, 12, ...: each 1.5 times the one before, rounded up."""
    found = [1]
    while found[-1] < epochs:
        found.append(max(found[-1] + 1, math.floor(found[-1] * 1.5)))
    return [epoch for epoch in found if epoch <= epochs]


def time_of(epoch: int, epochs: int) -> float:
    return math.log(epoch) / math.log(epochs) if epochs > 1 else 1.0


def _epoch_seconds(record: TrialRecord) -> float:
    known = record.epochs
    counted = known[1:] or known  # the first one may include frozen features
    return max(1e-4, sum(one.seconds for one in counted) / len(counted))
