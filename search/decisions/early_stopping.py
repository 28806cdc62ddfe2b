"""Which trials go on past a rung: asynchronous successive halving for several objectives.

A rung is an epoch at which trials are compared with all that reached it before them; one in
`reduction` goes on, the others are stopped for good (the stopping variant of ASHA, arXiv
1810.05934). `pareto` compares by non-dominated sorting of the objectives, accuracy as it is at the
rung and costs as they are known from the start, so that cheap models are held against cheap ones
and dear ones against dear ones; where a front has fewer seats than members, those go on that lie
farthest apart (arXiv 2106.12639, 2106.05680). `asha` compares by accuracy alone. No Ray here.
"""

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial

import moocore
import numpy as np

from analysis.columns import ACCURACY, COSTS
from analysis.pareto.front import Box, FloatArray, IntArray, pareto_front
from search.study.study import EarlyStoppingSettings

# A rung compares with this many trials at most, those that reached it last: a search of 10,000
# trials decides as quickly as one of 1,000, and by proposals that are as good as today's.
_MAX_COMPARED = 1000


class EarlyStopping:
    """The rungs of one search, and what every trial showed on them."""

    def __init__(
        self,
        *,
        min_epochs: int,
        max_epochs: int | None,
        reduction: float,
        num_ahead: Callable[[FloatArray], int],
        outlook: bool = False,
    ) -> None:
        """num_ahead: of (trials, objectives) losses, how many trials are ahead of the last one.

        outlook: whether trials are also held against the front; see `curve_extrapolation`.
        """
        self.outlook = outlook
        self._min_epochs = min_epochs
        self._max_epochs = max_epochs or math.inf
        self._reduction = reduction
        self._num_ahead = num_ahead
        self._reached: dict[tuple[int, str], dict[int, list[float]]] = {}

    def rungs(self, epochs: int) -> list[int]:
        """The epochs at which a trial of so many epochs is compared; never its last."""
        return rungs(self._min_epochs, min(self._max_epochs, epochs - 1), self._reduction)

    def enter(self, rung: int, schedule: str, number: int, losses: list[float]) -> None:
        """Note what a trial showed at a rung, every objective minimised.

        schedule: the recipe's. Accuracies that were come to at different points of different
        learning rates tell nothing about each other, so each schedule has rungs of its own.
        """
        reached = self._reached.setdefault((rung, schedule), {})
        reached[number] = losses
        if len(reached) > _MAX_COMPARED:
            del reached[next(iter(reached))]

    def should_continue(
        self,
        rung: int,
        schedule: str,
        number: int,
        *,
        beyond_front: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Whether a trial that entered a rung is among those that go on from there so far.

        beyond_front: whether no finished trial dominates what it shows already; asked for where all
        seats are taken. With an outlook, such a one goes on there too, as long as no other at its
        rung dominates it.
        """
        reached = self._reached[rung, schedule]
        mine = reached[number]
        others = [losses for other, losses in reached.items() if other != number]
        seats = math.ceil((len(others) + 1) / self._reduction)
        losses = np.array([*others, mine])
        if self._num_ahead(losses) < seats:
            return True
        return self.outlook and beyond_front() and bool(pareto_front(losses)[-1])


def build_early_stopping(
    settings: EarlyStoppingSettings, objectives: Sequence[str]
) -> EarlyStopping | None:
    """What a study file asks for; None where trials run to their end.

    objectives: the columns, in the study's order.
    """
    log_columns = [index for index, name in enumerate(objectives) if name in COSTS]
    num_ahead: Callable[[FloatArray], int]
    if settings.name == "none" or ACCURACY not in objectives:
        return None
    if settings.name == "asha":
        num_ahead = partial(num_more_accurate, accuracy=list(objectives).index(ACCURACY))
    else:
        num_ahead = partial(num_ahead_on_fronts, log_columns=log_columns)
    return EarlyStopping(
        min_epochs=settings.min_epochs,
        max_epochs=settings.max_epochs,
        reduction=settings.reduction,
        num_ahead=num_ahead,
        outlook=settings.outlook and settings.name == "pareto",
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
    """How many rows are ahead of the last: on an earlier front, or before it on its own.

    losses: (trials, objectives), all minimised. On a front the order is that of `spread_order`.
    """
    ranks = moocore.pareto_rank(losses)
    own_front = np.flatnonzero(ranks == ranks[-1])
    order = spread_order(losses[own_front], log_columns)
    return int((ranks < ranks[-1]).sum()) + int(np.flatnonzero(order == len(own_front) - 1)[0])


def num_more_accurate(losses: FloatArray, accuracy: int) -> int:
    """How many rows have a smaller loss than the last in the column of the accuracy."""
    return int((losses[:, accuracy] < losses[-1, accuracy]).sum())


def spread_order(losses: FloatArray, log_columns: Collection[int] = ()) -> IntArray:
    """Order rows so that the first k of them lie far apart, whatever k is.

    losses: (trials, objectives), all minimised; columns in log_columns count in magnitudes. Begins
    with the smallest loss in the first column; each next one is the farthest from all before it,
    objectives scaled to the same range. Equal rows come last.
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
