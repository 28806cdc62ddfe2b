"""How good a running trial may still become, judged by the curves of complete trials like it.

Curves are of the study's metric, and errors are what it lacks to 100 %. Suppose that from now on a
trial loses as large a share of its errors as the best of these trials did. If a trial on the front
is still at least as good at a lower cost, the running trial is stopped. Rungs compare a trial with
others at the same epoch; this compares it with the front.

Curves are alike if their models have as much still to learn. That depends on whether the weights
are pretrained, and on which part of the model trains. From random weights, errors fall late and by
much. A new head on frozen blocks has learned most of what it can after an epoch. So no trial is
judged by curves of models that train less than it does, or that began with other knowledge.
"""

from collections import defaultdict
from typing import NamedTuple

from search.decisions.chance import Chance
from search.decisions.trial_record import TrialRecord
from spaces.columns import ACCURACY
from spaces.recipe import Recipe

# Fewer curves say too little. Until there are this many like a trial, it is not stopped.
_FEWEST_CURVES = 3

_Values = list[float]


class _Kind(NamedTuple):
    """What makes curves comparable."""

    is_pretrained: bool
    part: int
    """What trains. 0: the head alone; 1: the last blocks too; 2: the whole model."""
    schedule: str

    def trains_like(self, other: "_Kind") -> bool:
        return self[:2] == other[:2]

    def trains_at_least(self, other: "_Kind") -> bool:
        """Whether it begins with the same knowledge, and trains as much of the model or more."""
        return self.is_pretrained == other.is_pretrained and self.part >= other.part


class CurveExtrapolation:
    """The curves of complete trials, as shares of their schedules."""

    def __init__(self, metric: str = ACCURACY) -> None:
        self._metric = metric
        self._curves: dict[_Kind, list[_Values]] = defaultdict(list)

    def learn(self, record: TrialRecord) -> None:
        """Add the curve of a complete trial. A trial that took over a result has none."""
        if record.epochs:
            self._curves[_kind_of(record)].append([one[self._metric] for one in record.epochs])

    def best_end(self, record: TrialRecord) -> float:
        """The most that a running trial may end with; 1 if too little is known."""
        curves = self._like(record)
        if curves is None:
            return 1.0
        part = _share_trained(record)
        smallest = min(_share_of_errors_left(curve, part) for curve in curves)
        reached = record.epochs[-1][self._metric]
        return max(reached, 1 - (1 - reached) * smallest)

    def best_from_chance(self, record: TrialRecord, chance: Chance) -> float:
        """The best end of the curves that were at chance as late as this trial is.

        Of trials that train as much as this one or more. 0: there was none.
        """
        kind, part = _kind_of(record), _share_trained(record)
        ends = (
            curve[-1]
            for other, curves in self._curves.items()
            if other.trains_at_least(kind)
            for curve in curves
            if chance.explains(curve[_index(curve, part)])
        )
        return max(ends, default=0.0)

    def _like(self, record: TrialRecord) -> list[_Values] | None:
        """The curves most like a trial's: of its schedule, else of any; None if they are too few.

        If those are still too few, curves of models that train more count too.
        """
        kind = _kind_of(record)
        for kinds in (
            [kind],
            [other for other in self._curves if other.trains_like(kind)],
            [other for other in self._curves if other.trains_at_least(kind)],
        ):
            curves = [curve for other in kinds for curve in self._curves.get(other, [])]
            if len(curves) >= _FEWEST_CURVES:
                return curves
        return None


def _kind_of(record: TrialRecord) -> _Kind:
    assert record.recipe is not None
    recipe = record.recipe
    return _Kind(
        is_pretrained=recipe.weights != "none",
        part=_part_that_trains(recipe),
        schedule=record.schedule,
    )


def _part_that_trains(recipe: Recipe) -> int:
    if recipe.unfrozen is None:
        return 2
    return 1 if recipe.unfrozen else 0


def _share_trained(record: TrialRecord) -> float:
    assert record.recipe is not None
    return len(record.epochs) / record.recipe.epochs


def _index(curve: _Values, part: float) -> int:
    return max(1, round(part * len(curve))) - 1


def _share_of_errors_left(curve: _Values, part: float) -> float:
    """Errors at the end / errors at this part of the curve."""
    then = 1 - curve[_index(curve, part)]
    return (1 - curve[-1]) / then if then > 0 else 1.0
