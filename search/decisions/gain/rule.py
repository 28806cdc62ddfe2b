"""Pauses trials whose time is better spent on others, and resumes them when it is not."""

from collections.abc import Collection, Mapping

from search.decisions.gain.index import GainIndex, milestones
from search.decisions.stopping import Decision, Go, Pause, StoppingContext, StoppingRule
from search.decisions.trial_record import TrialRecord

import os
_PATIENCE = float(os.environ.get('FW_P', 0.5))
_NO_GAIN = 3e-4
_MOST_PAUSED = 64


class GainRule(StoppingRule):
    """Compares the gain per second of a running trial with that of all others."""

    def __init__(self) -> None:
        self._decided: dict[int, int] = {}

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        assert trial.recipe is not None
        last = len(trial.epochs)
        before = self._decided.get(trial.number, 0)
        passed = [m for m in milestones(trial.recipe.epochs) if before < m <= last]
        self._decided[trial.number] = last
        if not passed or trial.has_run_all_epochs:
            return Go()
        index = context.index
        assert index is not None
        own = index.outlook(trial)
        paused = index.best_paused([context.trials[n] for n in sorted(context.paused)])
        best_paused = paused[1].rate if paused else 0.0
        best = max(index.best_fresh_rate, best_paused)
        if own.rate >= _PATIENCE * best:
            return Go()
        if len(context.running) > 1 and self._is_best_running(trial, own.rate, context):
            return Go()
        return Pause(
            reason=f"gain: {own.gain:.2g} in {own.seconds:.0f} s, elsewhere {best / max(own.rate, 1e-12):.1f} times as much a second"
        )

    def _is_best_running(self, trial, rate: float, context: StoppingContext) -> bool:
        others = [context.trials[n] for n in sorted(context.running) if n != trial.number]
        others = [one for one in others if one.epochs]
        if not others:
            return False
        assert context.index is not None
        return all(rate >= other.rate for other in context.index.outlooks(others))

    def resume(
        self, paused: Collection[TrialRecord], context: StoppingContext, *, may_begin: bool
    ) -> TrialRecord | None:
        index = context.index
        assert index is not None
        best = index.best_paused(list(paused))
        assert best is not None
        if not may_begin or best[1].rate >= _PATIENCE * index.best_fresh_rate:
            return best[0]
        return None

    def give_up(
        self, paused: Collection[TrialRecord], context: StoppingContext
    ) -> Mapping[int, str]:
        assert context.index is not None
        records = list(paused)
        outlooks = context.index.outlooks(records)
        found = {
            record.number: f"gain: {outlook.gain:.1g} of the front's area is all that it may add"
            for record, outlook in zip(records, outlooks, strict=True)
            if outlook.gain < float(__import__("os").environ.get("FW_NG", 0))
        }
        left = [pair for pair in zip(records, outlooks, strict=True) if pair[0].number not in found]
        left.sort(key=lambda pair: pair[1].rate)
        for record, _ in left[: max(0, len(left) - _MOST_PAUSED)]:
            found[record.number] = f"gain: {_MOST_PAUSED} paused trials have more"
        return found
