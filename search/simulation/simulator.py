"""Searches a table again in simulated time, with the same ledger, samplers and stopping.

Only the workers are simulated, by a heap of events. Every epoch takes as long as it did when it was
recorded. Proposals, comparisons, stops and reports are those of a real search.
"""

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.trial import TrialState

from analysis.results.hypervolume_trace import SeededTraces
from search.decisions.budget import Budget, BudgetMeter, SpaceExhaustedError, Spent, next_trial
from search.decisions.gain.fresh import FreshRecipes
from search.decisions.gain.index import TRIAL_SECONDS
from search.decisions.ledger import Ledger, open_ledger
from search.decisions.proposals import Proposals
from search.decisions.samplers import SamplerSettings
from search.decisions.stopping import Go, Pause
from search.decisions.stopping_rules import EarlyStoppingSettings, build_stopping_rule
from search.decisions.trial_record import TrialRecord
from search.simulation.pool import Pool, PoolSampler, PoolSpace
from search.simulation.tabular_benchmark import TabularBenchmark
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from trainables.costing.figures import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """How to search a recorded table."""

    sampler: str = SamplerSettings().name
    early_stopping: EarlyStoppingSettings = field(default_factory=EarlyStoppingSettings)
    workers: int = 4
    budget: Budget
    seed: int = 0

    @property
    def name(self) -> str:
        """The names of the sampler and of early stopping."""
        return f"{self.sampler}, {self.early_stopping.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HypervolumeStep:
    """The front of a replay after a finished trial."""

    seconds: float
    """Simulated time."""
    hypervolume: float
    """Of the front so far, as a share of the hypervolume of all recorded trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSearch:
    """The result of one replay."""

    settings: SimulationSettings
    growth: tuple[HypervolumeStep, ...]
    """The steps at which the hypervolume grew, in order of time."""
    seconds: float
    """Simulated time until the last trial was over."""
    worker_seconds: float
    """Simulated time in epochs, over all workers."""
    counts: dict[str, int]
    """Trials by state."""
    decisions: int
    """How many proposals were made, and after how many epochs early stopping decided."""
    driver_seconds: float
    """Real time that the driver took for these decisions."""
    ended_by: Spent | str


def simulate(
    table: TabularBenchmark,
    settings: SimulationSettings,
    *,
    study: optuna.Study | None = None,
    watch: Callable[[Ledger], None] = lambda _: None,
) -> SimulatedSearch:
    """Search a recorded table again.

    study: an Optuna study with the table's objectives, to keep the trials in; None: in memory.
    watch: called whenever the workers that can be busy are.
    """
    return _Simulation(table, settings, study or _study_in_memory(table)).run(watch)


def traces_of(name: str, replays: Sequence[SimulatedSearch]) -> SeededTraces:
    """Traces of one way to search, one replay for each seed, to plot and compare."""
    steps = [replay.growth for replay in replays]
    return SeededTraces(
        name=name,
        seconds=tuple(np.array([step.seconds for step in of_seed]) for of_seed in steps),
        hypervolumes=tuple(np.array([step.hypervolume for step in of_seed]) for of_seed in steps),
    )


class _PoolRecipes(FreshRecipes):
    """The recorded recipes that are left, in place of drawn ones."""

    def __init__(self, space: SearchSpace, pool: Pool) -> None:
        super().__init__(space)
        self._pool = pool

    def first(self, seed: int) -> list[Recipe]:
        if self._pool.is_foreign:  # its dimensions are not those of our recipes
            return []
        usual = super().first(seed)
        nearest = (self._pool.nearest(recipe.to_dict()) for recipe in usual)
        return [
            near
            for near, recipe in zip(nearest, usual, strict=True)
            if (near.model, near.unfrozen) == (recipe.model, recipe.unfrozen)
        ]

    def draw(self, seed: int, count: int) -> list[Recipe]:
        return self._pool.left()

    def near(self, recipes: Iterable[Recipe], seed: int, count: int) -> list[Recipe]:
        return []


class _Simulation:
    def __init__(
        self, table: TabularBenchmark, settings: SimulationSettings, study: optuna.Study
    ) -> None:
        self._table = table
        self._settings = settings
        self._pool = Pool(table)
        self._now = 0.0
        self._events: list[tuple[float, int, int, int]] = []
        self._order = itertools.count()
        self._decisions = 0
        self._driver_seconds = 0.0
        self._ended_by: Spent | str | None = None
        self._whole = table.box.normalized_hypervolume(table.losses)
        space = PoolSpace(
            name=table.name,
            rules=table.space.rules,
            written=table.space.written,
            base=table.space.base,
            pool=self._pool,
        )
        proposals = Proposals(
            space=space,
            objectives=table.objectives,
            sampler=settings.sampler,
            seed=settings.seed,
            effort=table.share_trained,
            wrap=lambda sampler: PoolSampler(sampler, table.space, self._pool),
            startup_space=table.space,
            fresh=_PoolRecipes(table.space, self._pool),
            training_effort=table.foretold,
        )
        self._ledger = open_ledger(
            study,
            proposals,
            rule=build_stopping_rule(settings.early_stopping, table.objectives),
            measure=self._cost_of,
            chance=table.chance,
            clock=lambda: self._now,
        )
        self._meter = BudgetMeter(settings.budget, self._ledger)

    def run(self, watch: Callable[[Ledger], None] = lambda _: None) -> SimulatedSearch:
        growth: list[HypervolumeStep] = []
        idle = self._settings.workers
        while True:
            while idle and self._begin():
                idle -= 1
            if not self._events:
                break
            watch(self._ledger)
            self._now, _, number, epoch = heapq.heappop(self._events)
            if self._end_epoch(number, epoch):
                continue
            idle += 1
            if self._ledger.records[number].state == TrialState.COMPLETE:
                share = (
                    self._table.box.normalized_hypervolume(self._ledger.pareto_tracker.front_losses)
                    / self._whole
                )
                if not growth or share > growth[-1].hypervolume:
                    growth.append(HypervolumeStep(seconds=self._now, hypervolume=share))
        self._ledger.give_up_all("the budget is used up")
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return SimulatedSearch(
            settings=self._settings,
            growth=tuple(growth),
            seconds=self._now,
            worker_seconds=self._ledger.worker_seconds,
            counts={state.name: self._ledger.pareto_tracker.counts[state] for state in states},
            decisions=self._decisions,
            driver_seconds=self._driver_seconds,
            ended_by=self._ended_by or "exhausted",
        )

    def _begin(self) -> bool:
        """Begin one more trial, or go on with a paused one, if there is budget for it."""
        try:
            with self._clocked():
                record = next_trial(self._ledger)
        except SpaceExhaustedError:
            self._ended_by = "exhausted"
            return False
        if record is None:
            self._ended_by = self._meter.spent()
            return False
        self._decisions += 1
        # A paused trial goes on from its checkpoint. Loading it takes about as long as a new model.
        self._push(record, len(record.epochs) + 1, TRIAL_SECONDS)
        return True

    def _end_epoch(self, number: int, epoch: int) -> bool:
        """Report an epoch; returns whether the trial goes on."""
        record = self._ledger.records[number]
        assert record.recipe is not None
        metrics = self._pool.find(record.recipe).epochs[epoch - 1]
        self._decisions += 1
        with self._clocked():
            decision = self._ledger.report(number, [metrics])
            if isinstance(decision, Pause):
                self._ledger.pause(number, decision.reason)
            if epoch == record.recipe.epochs:
                self._ledger.complete(number)
                return False
        should_continue = isinstance(decision, Go)
        if should_continue:
            self._push(record, epoch + 1, 0.0)
        return should_continue

    def _push(self, record: TrialRecord, epoch: int, delay: float) -> None:
        assert record.recipe is not None
        seconds = self._pool.find(record.recipe).epochs[epoch - 1].seconds
        end = self._now + delay + seconds
        heapq.heappush(self._events, (end, next(self._order), record.number, epoch))

    @contextmanager
    def _clocked(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._driver_seconds += time.perf_counter() - started

    def _cost_of(self, recipe: Recipe) -> Cost:
        return self._pool.find(recipe).cost


def _study_in_memory(table: TabularBenchmark) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # gp warns of every kernel that fits badly
    return optuna.create_study(directions=table.objectives.optuna_directions)
