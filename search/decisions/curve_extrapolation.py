"""How accurate a running trial may still become, judged by the curves of complete trials.

Suppose that from now on it loses as large a share of its errors as the best of these trials did. If
a trial on the front is still at least as accurate at a lower cost, the running trial is stopped.
Rungs compare a trial with others at the same epoch; this compares it with the front.
"""

from collections import defaultdict

from search.decisions.trial_record import TrialRecord

# Fewer curves of a schedule say too little; then the curves of all schedules count. Until there are
# this many of those, nothing is stopped.
_FEWEST_CURVES = 3


class CurveExtrapolation:
    """The curves of complete trials, as shares of their schedules."""

    def __init__(self) -> None:
        self._curves: dict[str, list[list[float]]] = defaultdict(list)

    def learn(self, record: TrialRecord) -> None:
        """Add the curve of a complete trial. A trial that took over a result has none."""
        if record.epochs:
            accuracies = [metrics.accuracy for metrics in record.epochs]
            self._curves[record.schedule].append(accuracies)

    def best_accuracy(self, record: TrialRecord) -> float:
        """The highest accuracy that a running trial may end with; 1 if too little is known."""
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
