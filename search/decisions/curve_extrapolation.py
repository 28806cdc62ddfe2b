"""How good a running trial may still become, judged by the curves of those that ran to their end.

A trial is given up where, even if it lost as large a share of its errors from here on as the best
of those did, one on the front would be at least as accurate at a lower cost. Rungs compare a trial
with what others were at its age; this compares it with what is already had.
"""

from collections import defaultdict

from search.decisions.trial_record import TrialRecord

# Of fewer curves the best says too little; then those of all schedules count, and before there are
# as many of those, nothing is given up.
_FEWEST_CURVES = 3


class CurveExtrapolation:
    """The curves of complete trials, as shares of their schedules."""

    def __init__(self) -> None:
        self._curves: dict[str, list[list[float]]] = defaultdict(list)

    def learn(self, record: TrialRecord) -> None:
        """Take up the curve of a complete trial; one that took over a result has none."""
        if record.epochs:
            accuracies = [metrics.accuracy for metrics in record.epochs]
            self._curves[record.schedule].append(accuracies)

    def best_accuracy(self, record: TrialRecord) -> float:
        """The accuracy that a running trial may end with; 1 where too little is known."""
        assert record.recipe is not None
        curves = self._curves[record.schedule]
        if len(curves) < _FEWEST_CURVES:
            curves = [curve for of_schedule in self._curves.values() for curve in of_schedule]
        if len(curves) < _FEWEST_CURVES:
            return 1.0
        part = len(record.epochs) / record.recipe.epochs
        smallest = min(_share_of_errors_left(curve, part) for curve in curves)
        accuracy = record.epochs[-1].accuracy
        return max(accuracy, 1 - (1 - accuracy) * smallest)


def _share_of_errors_left(curve: list[float], part: float) -> float:
    """Errors at the end / errors at this part of the curve."""
    then = 1 - curve[max(1, round(part * len(curve))) - 1]
    return (1 - curve[-1]) / then if then > 0 else 1.0
