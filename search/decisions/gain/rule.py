"""Pauses trials whose time is better spent on others, and resumes them when it is not."""

from collections.abc import Collection, Mapping

from search.decisions.gain.index import GainIndex, milestones, milestones_of
from search.decisions.stopping import Decision, Go, Pause, StoppingContext, StoppingRule
from search.decisions.trial_record import TrialRecord

# A trial goes on while its gain per second is at least this part of the best that could be begun or
# resumed in its place. A change of trial has a price, and predictions are rough.
ENOUGH = 0.5
# Each keeps a checkpoint. The trials that promise least are given up.
_MOST_PAUSED = 64
# Once no new trial may begin, a paused one goes on if its gain per second is at least this part of
# the search's average.
_WORTH_FINISHING = 0.05


class GainRule(StoppingRule):
    """Compares the gain per second of a running trial with that of all others."""

    rates_by_gain = True

    def decide(self, trial: TrialRecord, context: StoppingContext) -> Decision:
        assert trial.recipe is not None
        epoch, epochs = len(trial.epochs), trial.recipe.epochs
        if epoch >= epochs or epoch not in milestones_of(trial.recipe):
            return Go()
        limit = context.spent()
        if limit not in (None, "trials"):
            return Go()  # nothing may take its place
        index = _index_of(context)
        own = index.outlooks([trial])[0].rate
        paused = [context.trials[number] for number in sorted(context.paused)]
        rates = [outlook.rate for outlook in index.outlooks(paused)]
        best = max([0.0 if limit else index.best_fresh_rate, *rates])
        if own >= ENOUGH * best or self._leads(trial, own, context):
            return Go()
        times = f"{best / own:.1f} times" if own > best / 1000 else "over 1,000 times"
        return Pause(reason=f"gain: {times} as much in a second elsewhere, after epoch {epoch}")

    @staticmethod
    def _leads(trial: TrialRecord, rate: float, context: StoppingContext) -> bool:
        """Whether none of the trials that run beside it has a higher rate.

        Of several, one always goes on, so that no mistake of the model stops everything.
        """
        others = [context.trials[number] for number in sorted(context.running)]
        others = [other for other in others if other is not trial and other.epochs]
        outlooks = _index_of(context).outlooks(others)
        return bool(others) and all(rate >= outlook.rate for outlook in outlooks)

    def resume(
        self, paused: Collection[TrialRecord], context: StoppingContext, *, may_begin: bool
    ) -> TrialRecord | None:
        index = _index_of(context)
        outlooks = index.outlooks(list(paused))
        if may_begin:
            rates = [outlook.rate for outlook in outlooks]
            least = ENOUGH * index.best_fresh_rate
        else:
            rates = [outlook.rate_once_paid for outlook in outlooks]
            least = _WORTH_FINISHING * index.average_rate
        record, rate = max(zip(paused, rates, strict=True), key=lambda pair: pair[1])
        return record if rate >= least else None

    def give_up(
        self, paused: Collection[TrialRecord], context: StoppingContext
    ) -> Mapping[int, str]:
        too_many = len(paused) - _MOST_PAUSED
        if too_many <= 0:
            return {}
        outlooks = _index_of(context).outlooks(list(paused))
        ranked = sorted(zip(outlooks, paused, strict=True), key=lambda pair: pair[0].rate)
        reason = f"gain: {_MOST_PAUSED} paused trials promise more in a second"
        return {record.number: reason for _, record in ranked[:too_many]}

    def rungs(self, epochs: int) -> list[int]:
        return [epoch for epoch in milestones(epochs) if epoch < epochs]


def _index_of(context: StoppingContext) -> GainIndex:
    assert context.index is not None, "a ledger has one"
    return context.index
