"""Which trials go on past a rung: asynchronous successive halving for several objectives.

At a rung, which is an epoch, a trial is compared with all that reached it before. One in
`reduction` goes on; the others are stopped for good (the stopping variant of ASHA, arXiv
1810.05934). Trials are ranked by non-dominated sorting of their metric at the rung and their
costs. So cheap models are compared with cheap ones, and expensive ones with expensive ones. If not
all of a front can go on, those that lie farthest apart do (arXiv 2106.12639, 2106.05680). Or trials
are ranked by the metric alone.
"""

import math
from collections.abc import Callable, Collection, Iterable

import moocore
import numpy as np

from analysis.pareto.front import Box, IntArray, pareto_front
from search.decisions.chance import Chance
from search.decisions.curve_extrapolation import CurveExtrapolation
from search.decisions.stopping import Decision, Go, Stop, StoppingContext, StoppingRule
from search.decisions.trial_record import TrialRecord
from spaces.columns import ACCURACY, FloatArray

# A rung compares with this many trials at most, those that reached it last. So a search of 10,000
# trials decides as quickly as one of 1,000, and compares with recent proposals, which are better.
_MAX_COMPARED = 1000
# A trial that was at chance for this share of its epochs, and two at least, is stopped. Of 240 CNNs
# recorded in benchmarks/curves, 61 were at chance for so long. 27 of them learned later, but all of
# these ended 20 points or more below the best CNN of their cost. After two epochs of 27, that would
# not hold.
_PATIENCE_AT_CHANCE = 1 / 5


class RungRule(StoppingRule):
    """The rungs of one search, the losses of trials on them, and the curves of complete trials.

    Each learning-rate schedule has rungs of its own: what trials of different schedules reached at
    the same epoch can't be compared.
    """

    def __init__(
        self,
        *,
        min_epochs: int,
        max_epochs: int | None,
        reduction: float,
        num_ahead: Callable[[FloatArray], int],
        metric: str = ACCURACY,
        extrapolate: bool = False,
    ) -> None:
        """num_ahead: of (trials, objectives) losses, how many trials are ahead of the last one.

        metric: the study's. extrapolate: also compare trials with the front, by
        `curve_extrapolation`. A trial that can no longer reach the front is stopped, and so is one
        that has not left chance. A trial that is beyond the front goes on in any case, unless
        another at its rung dominates it.
        """
        self._min_epochs = min_epochs
        self._max_epochs = max_epochs or math.inf
        self._reduction = reduction
        self._num_ahead = num_ahead
        self._metric = metric
        self._extrapolation = CurveExtrapolation(metric) if extrapolate else None
        self._reached: dict[tuple[int, str], dict[int, list[float]]] = {}

    def rungs(self, epochs: int) -> list[int]:
        """The epochs at which a trial of this many epochs is compared; never its last."""
        return rungs(self._min_epochs, min(self._max_epochs, epochs - 1), self._reduction)

    def observe(self, trial: TrialRecord, context: StoppingContext) -> None:
        """Add a trial of an earlier session or run to every rung that it reached."""
        if trial.recipe is None or trial.cost is None:
            return
        measured = {metrics.epoch: metrics[self._metric] for metrics in trial.epochs}
        reached = measured | trial.rungs
        for rung in self.rungs(trial.recipe.epochs):
            if rung in reached:
                self._enter(rung, trial, context.pareto_tracker.losses(trial, reached[rung]))

    def learn(self, trial: TrialRecord) -> None:
        if self._extrapolation is not None:
            self._extrapolation.learn(trial)

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        assert trial.recipe is not None
        ended = trial.has_run_all_epochs
        passed: dict[int, float] = {}
        for rung in self.rungs(trial.recipe.epochs):
            if rung > len(trial.epochs) or rung in trial.rungs:
                continue
            reached = trial.epochs[rung - 1][self._metric]
            self._enter(rung, trial, context.pareto_tracker.losses(trial, reached))
            reason = None if ended else self._loses(rung, trial, reached, context)
            if reason is not None:
                return Stop(reason=reason)
            passed[rung] = reached
        if not ended:
            reason = self._stuck_at_chance(trial, context)
            if reason is None and (trial.rungs or passed):
                reason = self._out_of_reach(trial, context)
            if reason is not None:
                return Stop(reason=reason)
        return Go(rungs=passed)

    def _enter(self, rung: int, trial: TrialRecord, losses: list[float]) -> None:
        reached = self._reached.setdefault((rung, trial.schedule), {})
        reached[trial.number] = losses
        if len(reached) > _MAX_COMPARED:
            del reached[next(iter(reached))]

    def _loses(
        self, rung: int, trial: TrialRecord, reached: float, context: StoppingContext
    ) -> str | None:
        """Why a trial does not go on from a rung; None if it does."""
        there = self._reached[rung, trial.schedule]
        others = [losses for number, losses in there.items() if number != trial.number]
        losses = np.array([*others, there[trial.number]])
        seats = math.ceil(len(losses) / self._reduction)
        ahead = self._num_ahead(losses)
        if ahead < seats:
            return None
        beyond_front = self._extrapolation is not None and (
            context.pareto_tracker.dominator(trial, reached) is None
        )
        if beyond_front and pareto_front(losses)[-1]:
            return None
        return (
            f"rung of epoch {rung}: {ahead} of {len(others)} others are ahead, and only {seats} of"
            f" these {len(losses)} go on"
        )

    def _stuck_at_chance(self, trial: TrialRecord, context: StoppingContext) -> str | None:
        """Why a trial that has learned nothing for a fifth of its epochs is stopped.

        None if it has learned, or if an earlier trial like it left chance later than this. Nor is
        one stopped before any trial has learned: it may be the epochs that are too few.
        """
        chance = context.chance
        if self._extrapolation is None or chance is None or not chance.can_be_told:
            return None
        assert trial.recipe is not None
        num_epochs = len(trial.epochs)
        patience = max(2, math.ceil(trial.recipe.epochs * _PATIENCE_AT_CHANCE))
        latest = trial.epochs[-patience:]
        if num_epochs < max(self._min_epochs, patience) or not all(
            chance.explains(metrics[self._metric]) for metrics in latest
        ):
            return None
        if not chance.explains(self._extrapolation.best_from_chance(trial, chance)):
            return None
        if not self._any_has_learned(context.trials.values(), chance):
            return None
        return (
            f"at chance: {100 * latest[-1][self._metric]:.1f} % after {num_epochs} of"
            f" {trial.recipe.epochs} epochs, where guessing gets {100 * chance.value:.1f} %"
            f" (of {chance.num_images:,} images); no trial like it has learned anything after that"
        )

    def _any_has_learned(self, trials: Iterable[TrialRecord], chance: Chance) -> bool:
        """Whether a trial did better than guessing, at its end or at a rung.

        The storage keeps both, so an interruption changes nothing.
        """
        return any(
            not chance.explains(reached)
            for trial in trials
            for reached in (*trial.rungs.values(), trial.metrics.get(self._metric))
            if reached is not None
        )

    def _out_of_reach(self, trial: TrialRecord, context: StoppingContext) -> str | None:
        """Why a running trial can no longer reach the front; None if it can."""
        if self._extrapolation is None:
            return None
        best = self._extrapolation.best_end(trial)
        for bound in context.pareto_tracker.objectives.least_of_metric:
            if bound.violation(best) > 0:
                return (
                    f"out of reach: at best it would end at {100 * best:.1f} %, which breaks"
                    f" {bound}"
                )
        dominator = context.pareto_tracker.dominator(trial, best)
        if dominator is None:
            return None
        return (
            f"out of reach: at best it would end at {100 * best:.1f} %, where trial"
            f" {dominator.number} is better at no higher cost"
        )


def rungs(first: int, last: float, reduction: float) -> list[int]:
    """Epochs from first to last, each `reduction` times the one before, rounded up."""
    found = []
    rung = float(first)
    while rung <= last:
        found.append(math.ceil(rung))
        rung = max(rung * reduction, found[-1] + 1)
    return found


def num_ahead_on_fronts(losses: FloatArray, log_columns: Collection[int] = ()) -> int:
    """How many rows are ahead of the last: on an earlier front, or earlier on the same front.

    losses: (trials, objectives), all minimised. On a front the order is that of `spread_order`.
    """
    ranks = moocore.pareto_rank(losses)
    own_front = np.flatnonzero(ranks == ranks[-1])
    order = spread_order(losses[own_front], log_columns)
    return int((ranks < ranks[-1]).sum()) + int(np.flatnonzero(order == len(own_front) - 1)[0])


def num_better(losses: FloatArray, column: int) -> int:
    """How many rows have a smaller loss than the last one in this column."""
    return int((losses[:, column] < losses[-1, column]).sum())


def spread_order(losses: FloatArray, log_columns: Collection[int] = ()) -> IntArray:
    """Order rows so that for any k, the first k lie far apart.

    losses: (trials, objectives), all minimised. log_columns: columns that count by magnitude. The
    smallest loss in the first column comes first. Each next row is the farthest from all before
    it, with the objectives scaled to the same range. Equal rows come last.
    """
    scaled = Box.around(losses, log_columns).scale(losses)
    order = [int(np.lexsort(losses.T[::-1])[0])]
    distances = np.linalg.norm(scaled - scaled[order[0]], axis=1)
    for _ in range(len(losses) - 1):
        distances[order[-1]] = -1.0
        order.append(int(np.argmax(distances)))
        apart = np.linalg.norm(scaled - scaled[order[-1]], axis=1)
        distances = np.where(distances < 0, distances, np.minimum(distances, apart))
    return np.array(order)
