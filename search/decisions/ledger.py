"""Every trial of a search: proposed, followed, and told to Optuna exactly once. No Ray here."""

import math
import time
from collections.abc import Callable, Iterable

import optuna
from optuna.trial import FrozenTrial, TrialState

from analysis.columns import amount
from search.decisions.chance import Chance
from search.decisions.gain.fresh import FreshRecipes
from search.decisions.gain.index import GainIndex
from search.decisions.pareto_tracker import ParetoTracker
from search.decisions.proposals import Proposals
from search.decisions.recipe_results import RecipeResults
from search.decisions.stopping import (
    Decision,
    Go,
    Pause,
    Stop,
    StoppingContext,
    StoppingRule,
)
from search.decisions.trial_record import RECIPE, Expected, TrialRecord, read_record
from search.decisions.trial_store import TrialStore
from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.costing.figures import Cost
from trainables.learning.metrics import EpochMetrics

# After this many failures with nothing finished, the study is wrong, not a recipe.
MAX_FAILURES_FROM_START = 8


def open_ledger(
    study: optuna.Study,
    proposals: Proposals,
    *,
    rule: StoppingRule,
    measure: Callable[[Recipe], Cost],
    keep_dominated: bool = False,
    chance: Chance | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> "Ledger":
    """Open the ledger of a new or an old study. Enqueued recipes are tried first.

    measure: the cost of a recipe's model, before any training. The recipes of earlier runs' results
    are not trained again, and rules compare with them.
    keep_dominated: trials begin even if they can't reach the front, and no complete trial loses its
    checkpoint. chance: what guessing gets on the validation split; None: not known. clock: seconds
    since any fixed time.
    """
    store = TrialStore(study, proposals)
    ledger = Ledger(
        store,
        proposals,
        rule=rule,
        measure=measure,
        keep_dominated=keep_dominated,
        chance=chance,
        clock=clock,
    )
    ledger.enqueue(proposals.enqueued)
    return ledger


class Ledger:
    """The trials of one search, in memory and in Optuna's storage."""

    def __init__(
        self,
        store: TrialStore,
        proposals: Proposals,
        *,
        rule: StoppingRule,
        measure: Callable[[Recipe], Cost],
        keep_dominated: bool,
        chance: Chance | None,
        clock: Callable[[], float],
    ) -> None:
        """As `open_ledger`."""
        self.records: dict[int, TrialRecord] = {}
        self.pareto_tracker = ParetoTracker(store.objectives)
        self._store = store
        self._rule = rule
        self._measure = measure
        self._keep_dominated = keep_dominated
        self._interrupted: list[TrialRecord] = []
        self._running: set[int] = set()
        self.paused: dict[int, TrialRecord] = {}
        """Trials that freed their workers and may go on later, by number."""
        self.given_up: list[TrialRecord] = []
        """Paused trials that will never go on. Whoever removes their checkpoints empties it."""
        self.num_repeats = 0
        """So many of the latest proposals in a row did not begin."""
        earlier = proposals.earlier
        self._results = RecipeResults(earlier.results)
        self._context = StoppingContext(
            pareto_tracker=self.pareto_tracker,
            trials=self.records,
            running=self._running,
            paused=self.paused.keys(),
            chance=chance,
        )
        for record in earlier.results:
            rule.observe(record, self._context)
        self._index = self._context.index = GainIndex(
            space=proposals.space,
            objectives=proposals.objectives,
            foretell=proposals.foretell or measure,
            effort=proposals.training_effort,
            fresh=proposals.fresh or FreshRecipes(proposals.space),
            seed=proposals.seed,
            context=self._context,
        )
        store.index = self._index
        for record in earlier.results:
            self._index.note(record)
        for record in earlier.guides:
            self._index.learn_from(record)
        self._effort = proposals.training_effort
        asks_index = proposals.rates_by_gain or rule.rates_by_gain
        self._foretells = asks_index and proposals.objectives.metric is not None
        self._clock = clock
        self._opened = clock() - store.seconds_searched
        for frozen in store.trials():
            self._restore(frozen)
        in_order = sorted(self.records.items())
        self.records.clear()
        self.records.update(in_order)
        self._num_failed_before = self.pareto_tracker.counts[TrialState.FAIL]

    def enqueue(self, recipes: Iterable[Recipe]) -> None:
        """Propose each of these recipes once, before the sampler draws any."""
        self._store.enqueue(recipes)

    def propose(self) -> TrialRecord | None:
        """The next trial to run: an interrupted or paused one, or a new one of the sampler's.

        None if the proposal does not run: its recipe has a result, which it takes over; or is being
        trained, so it waits for that trial; or its cost can't be measured; or it may not begin.
        """
        if self._interrupted:
            return self._interrupted.pop(0)
        record = self.resume_paused(may_begin=True)
        if record is not None:
            return record
        record = TrialRecord(number=self._store.ask(len(self.records)))
        self.records[record.number] = record
        if not (self._draw(record) and self._is_admitted(record) and self._is_new(record)):
            self.num_repeats += 1
            return None
        self.num_repeats = 0
        if self._foretells:
            record.expected = self._expected(record)
            self._store.store_expected(record)
        self._begin(record)
        return record

    def resume_paused(self, *, may_begin: bool) -> TrialRecord | None:
        """The paused trial that goes on now, if the rule wants that; gives up hopeless ones.

        may_begin: whether a new trial could begin instead.
        """
        if not self.paused:
            return None
        for number, reason in self._rule.give_up(self.paused.values(), self._context).items():
            self.give_up(number, reason)
        if not self.paused:
            return None
        paused = [self.paused[number] for number in sorted(self.paused)]
        record = self._rule.resume(paused, self._context, may_begin=may_begin)
        if record is not None:
            del self.paused[record.number]
            record.paused = record.checkpoint = None
            self._store.store_pause(record)
            self._begin(record)
        return record

    def pause(self, number: int, reason: str, *, checkpoint: str | None = None) -> None:
        """Take a trial off its worker, after `report` returned a Pause and its state was saved.

        Its epochs are stored: unlike a running trial's, they must survive this driver.
        """
        record = self.records[number]
        record.paused, record.pausing, record.checkpoint = reason, None, checkpoint
        self._store.store_pause(record)
        self._set_aside(record)

    def give_up(self, number: int, reason: str) -> None:
        """Tell a paused trial as pruned: it never goes on."""
        record = self.paused.pop(number)
        record.paused, record.stop_reason = None, reason
        self.given_up.append(record)
        self._tell(record, TrialState.PRUNED)

    def give_up_all(self, reason: str) -> None:
        """Give up every paused trial, at the end of a search."""
        for number in list(self.paused):
            self.give_up(number, reason)

    def _expected(self, record: TrialRecord) -> Expected:
        assert record.recipe is not None
        [outlook] = self._index.outlooks([record])
        return Expected(
            low=outlook.accuracy_below(0.1),
            accuracy=outlook.accuracy_below(0.5),
            high=outlook.accuracy_below(0.9),
            gain=outlook.gain,
            # The outlook's seconds have the price of a trial in them, which no clock measures.
            seconds=record.recipe.epochs * self._effort(record.recipe).epoch,
        )

    def _begin(self, record: TrialRecord) -> None:
        self._running.add(record.number)
        self._results.begin(record)
        self._index.note(record)

    def _set_aside(self, record: TrialRecord) -> None:
        self._running.discard(record.number)
        self._index.note(record)
        self.paused[record.number] = record

    def limit_by(self, spent: Callable[[], str | None]) -> None:
        """Set a budget; spent: the limit that is reached, or None. By default there is none."""
        self._context.spent = spent

    def spent(self) -> str | None:
        """The limit of the budget that is reached; None: there is budget left."""
        return self._context.spent()

    @property
    def index(self) -> GainIndex:
        """Rates trials by the gain that is expected of them."""
        return self._index

    @property
    def next_interrupted(self) -> int | None:
        """The number of the trial that had begun and goes on next: `propose` returns it first."""
        return self._interrupted[0].number if self._interrupted else None

    def put_back(self, number: int) -> None:
        """Let `propose` return a running trial again, after its process died."""
        self._interrupted.append(self.records[number])

    @property
    def is_idle(self) -> bool:
        """Whether no trial is being trained or was interrupted. Paused ones may be left."""
        return not self._running

    def report(
        self, number: int, epochs: Iterable[EpochMetrics], *, ran_on: str | None = None
    ) -> Decision:
        """Add epochs of a running trial; returns whether it goes on.

        If the stopping rule ends the trial, it is told as pruned at once. If the rule pauses it,
        call `pause` once its state is saved; if that is cut off, the trial has to reach this epoch
        again, and is paused there. Epochs that are known already change nothing, so a trial that
        resumed from a checkpoint reports all of its epochs.
        ran_on: the machine.
        """
        record, epochs = self.records[number], list(epochs)
        if record.state != TrialState.RUNNING:
            return Stop(reason=record.stop_reason or "it is over")
        record.add_machine(ran_on)
        record.add_epochs(epochs)
        if not epochs or epochs[-1].epoch < record.epochs[-1].epoch:
            return Go()
        if record.pausing is not None:
            return Pause(reason=record.pausing)
        self._index.note(record)
        decision = self._rule.decide(record, self._context)
        if isinstance(decision, Stop | Pause) and record.has_run_all_epochs:
            return Go()
        if isinstance(decision, Stop):
            record.stop_reason = decision.reason
            self._tell(record, TrialState.PRUNED)
        elif isinstance(decision, Pause):
            record.pausing = decision.reason
            self._store.store_pause(record)
        elif decision.rungs:
            record.rungs |= decision.rungs
            # Others are compared with these accuracies, so they must survive this driver.
            self._store.store_rungs(record)
        return decision

    def complete(self, number: int, *, checkpoint: str | None = None) -> list[TrialRecord]:
        """Tell a trial that ran all its epochs. Without a finite metric, it fails.

        Returns the trials that lose their checkpoint, perhaps this one too. A trial keeps its
        checkpoint while it is on the front.
        """
        record = self.records[number]
        metric = self._store.objectives.shown_metric
        reached = record.epochs[-1][metric] if record.epochs else math.nan
        if not math.isfinite(reached):
            return self.fail(number, f"ended without a finite {metric}: {reached}")
        record.checkpoint = checkpoint
        record.metrics = record.epochs[-1].metrics
        return self._tell(record, TrialState.COMPLETE)

    def fail(self, number: int, reason: str) -> list[TrialRecord]:
        """Tell a failed trial. It is recorded with its reason and has no score.

        Returns the trials that lose their checkpoint: this one.
        """
        record = self.records[number]
        record.error = reason
        return self._tell(record, TrialState.FAIL)

    def front(self) -> list[TrialRecord]:
        """Complete trials that no other one dominates; see `ParetoTracker.front`."""
        return self.pareto_tracker.front()

    def should_abort(self) -> bool:
        """Whether enough trials failed since the ledger was opened, and no other one trained."""
        num_failed = self.pareto_tracker.counts[TrialState.FAIL] - self._num_failed_before
        if num_failed < MAX_FAILURES_FROM_START or self.pareto_tracker.counts[TrialState.COMPLETE]:
            return False
        return not any(
            record.epochs and record.state != TrialState.FAIL for record in self.records.values()
        )

    def in_state(self, *states: TrialState) -> list[TrialRecord]:
        """Trials in one of the states, by number."""
        return [record for record in self.records.values() if record.state in states]

    def unfinished(self) -> list[TrialRecord]:
        """Trials that are neither over nor paused, by number: they run, or wait to do so."""
        return [record for record in self.in_state(TrialState.RUNNING) if record.paused is None]

    @property
    def num_begun(self) -> int:
        """Trials that count in the budget: all except those that were not allowed to begin."""
        return len(self.records) - self.pareto_tracker.num_refused

    @property
    def worker_seconds(self) -> float:
        """Time in epochs, over all trials and sessions."""
        running = (self.records[number] for number in self._results.running)
        return self.pareto_tracker.seconds + sum(record.seconds for record in running)

    @property
    def seconds_searched(self) -> float:
        """Wall time of the search, over all of its sessions."""
        return self._clock() - self._opened

    def save_seconds_searched(self) -> None:
        """Store the wall time for the next session."""
        self._store.save_seconds_searched(self.seconds_searched)

    def _draw(self, record: TrialRecord) -> bool:
        try:
            self._store.draw(record)
        except UserError as error:
            self.fail(record.number, f"drawn fields do not fit each other: {error}")
            return False
        return True

    def _is_admitted(self, record: TrialRecord) -> bool:
        """Whether a trial may begin: it has a cost, keeps the bounds, and can reach the front."""
        if record.cost is None and not self._measure_cost(record):
            return False
        reason = self._refusal(record)
        if reason is None:
            return True
        record.error = record.stop_reason = reason
        self._tell(record, TrialState.PRUNED)
        return False

    def _measure_cost(self, record: TrialRecord) -> bool:
        assert record.recipe is not None
        try:
            record.cost = self._measure(record.recipe)
        except UserError as error:
            self.fail(record.number, str(error))
            return False
        self._store.store_cost(record)
        return True

    def _refusal(self, record: TrialRecord) -> str | None:
        """Why a trial may not begin; None if it may."""
        numbers, objectives = record.numbers(), self._store.objectives
        violations = objectives.violations(numbers)
        self._store.store_violations(record, violations)
        broken = [
            f"constraint {bound}: it is {numbers.get(bound.column, math.nan):.4g}"
            for bound in objectives.constraints
            if violations.get(bound.column, 0.0) > 0
        ]
        if broken:
            return "; ".join(broken)
        if not self._keep_dominated and self.pareto_tracker.dominator(record) is not None:
            metric = amount(objectives.shown_metric, 1.0)
            return f"out of reach: others reached {metric} at a lower cost"
        return None

    def _is_new(self, record: TrialRecord) -> bool:
        """Whether a trial has to be trained. If not, it takes over a result or waits for one."""
        source = self._results.of(record)
        if source is not None:
            self._reuse(record, source)
            return False
        return not self._results.wait(record)

    def _reuse(self, record: TrialRecord, source: TrialRecord) -> None:
        record.reused = source.number
        record.metrics = source.metrics
        if source.stop_reason is not None:
            record.stop_reason = f"{source.stop_reason} (trial {source.number}, the same recipe)"
        self._tell(record, source.state)

    def _tell(self, record: TrialRecord, state: TrialState) -> list[TrialRecord]:
        """Tell a trial, then those that waited for it; returns trials that lose a checkpoint."""
        assert record.state == TrialState.RUNNING, f"trial {record.number} is told twice"
        record.search_seconds = self.seconds_searched
        self._store.store_outcome(record, state)
        dropped = self._close(record, state)
        for number in self._results.take_followers(record):
            if state == TrialState.FAIL:
                self.fail(number, f"as trial {record.number}: {record.error}")
            else:
                self._reuse(self.records[number], record)
        return dropped

    def _close(self, record: TrialRecord, state: TrialState) -> list[TrialRecord]:
        """Set the trial's last state, in Optuna and here."""
        record.state = state
        self._running.discard(record.number)
        self._store.tell(record)
        self._results.end(record)
        return self._take_in(record)

    def _take_in(self, record: TrialRecord) -> list[TrialRecord]:
        """Count a trial that is over; returns the trials that lose their checkpoint."""
        dropped = self.pareto_tracker.take_in(record)
        self._index.note(record)
        if record.state == TrialState.COMPLETE:
            self._rule.learn(record)
            if self._keep_dominated:
                dropped = []
        else:
            dropped = [record]
        self._results.add(record)
        for one in dropped:
            one.checkpoint = None
        return dropped

    def _restore(self, frozen: FrozenTrial) -> None:
        """Read a trial back from the storage. If telling it was cut off, finish that."""
        if frozen.state == TrialState.WAITING:
            return
        record, outcome = read_record(frozen)
        self.records[record.number] = record
        self._rule.observe(record, self._context)
        if record.state.is_finished():
            self._take_in(record)
            return
        self._store.reopen(frozen)
        if outcome is not None:
            self._close(record, outcome)
        elif record.paused is not None:
            self._results.begin(record)
            self._set_aside(record)
        elif (
            (RECIPE in frozen.user_attrs or self._draw(record))
            and self._is_admitted(record)
            and self._is_new(record)
        ):
            self._interrupted.append(record)
            self._begin(record)
