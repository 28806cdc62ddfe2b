"""Fronts of arrays: which rows no other row dominates, and what such a set is worth.

Sorting and hypervolume are moocore's (https://multi-objective.github.io/moocore/).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
import numpy.typing as npt

from spaces.columns import FloatArray

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]


def pareto_front(losses: FloatArray) -> BoolArray:
    """Mark the rows that no other row dominates.

    losses: (trials, objectives), all minimised. Equal rows are all kept.
    Raises ValueError on NaN or infinity.
    """
    losses = _checked(losses)
    if not len(losses):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(moocore.is_nondominated(losses, keep_weakly=True), dtype=np.bool_)


def front_order(losses: FloatArray, by: int = 0) -> IntArray:
    """Positions of the front's rows, from the smallest loss in column `by` to the largest.

    losses: (trials, objectives), all minimised. Ties are ordered by the other columns from the
    first to the last, then by position. Raises ValueError on NaN or infinity.
    """
    losses = _checked(losses)
    positions = np.flatnonzero(pareto_front(losses))
    others = [column for column in range(losses.shape[1]) if column != by]
    keys = [losses[positions, column] for column in reversed([by, *others])]
    return positions[np.lexsort(keys)]  # stable, so position breaks what ties are left


def hypervolume(losses: FloatArray, reference: Sequence[float] | FloatArray) -> float:
    """Volume that the rows dominate, up to the reference point; larger is better.

    losses: (trials, objectives), all minimised; reference: (objectives,). Rows that do not lie
    below the reference in every objective add nothing. Raises ValueError on NaN or infinity.
    """
    losses = _checked(losses)
    point = np.asarray(reference, dtype=np.float64)
    if point.shape != losses.shape[1:] or not np.isfinite(point).all():
        raise ValueError(
            f"the reference point must be {losses.shape[1]} finite numbers, not {reference}"
        )
    return float(moocore.hypervolume(losses, ref=point)) if len(losses) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The range of losses in which fronts are compared: one for all of them."""

    low: FloatArray
    """(objectives,), the best of each; of log columns the magnitude."""
    high: FloatArray
    """(objectives,), the worst of each."""
    log_columns: tuple[int, ...]
    margins: FloatArray
    """(objectives,), how far the reference point lies behind the worst, in shares of the range."""

    @classmethod
    def around(cls, losses: FloatArray, log_columns: Collection[int] = ()) -> "Box":
        """The box of all rows.

        losses: (trials, objectives), all minimised, at least one row. Columns in log_columns count
        in magnitudes (costs often span several), where all of their values are above zero.
        Raises ValueError on NaN or infinity.
        """
        losses = _checked(losses)
        logs = tuple(column for column in log_columns if (losses[:, column] > 0).all())
        magnitudes = _magnitudes(losses, logs)
        return cls(
            low=magnitudes.min(axis=0),
            high=magnitudes.max(axis=0),
            log_columns=logs,
            # So that the ends of a front count too.
            margins=np.full(losses.shape[1], 0.1),
        )

    def magnitude(self, column: int, loss: float) -> float:
        """A loss as `low` and `high` have it."""
        return float(np.log10(loss)) if column in self.log_columns else loss

    def number(self, column: int, ends: FloatArray) -> float:
        """The loss at one of the box's ends: the reverse of `magnitude`."""
        return float(10 ** ends[column] if column in self.log_columns else ends[column])

    def scale(self, losses: FloatArray) -> FloatArray:
        """Losses from 0 (the best of the box) to 1; 0 where the box has no extent."""
        span = self.high - self.low
        return (_magnitudes(losses, self.log_columns) - self.low) / np.where(span > 0, span, 1.0)

    def normalized_hypervolume(self, losses: FloatArray) -> float:
        """The share of the box that the rows dominate, from 0 to 1.

        The hypervolume of the scaled losses, with the margins added behind the worst. Rows that are
        better than the box's best count as its best.
        """
        if not len(losses):
            return 0.0
        reference = 1 + self.margins
        scaled = np.maximum(self.scale(losses), 0.0)
        return hypervolume(scaled, reference) / float(reference.prod())


def knee(losses: FloatArray, log_columns: Collection[int] = ()) -> int:
    """Position of the row where the front bends most: where more of one objective costs most.

    losses: (trials, objectives), all minimised, at least one row. Columns in log_columns count in
    magnitudes (costs often span several), where all of their values are above zero.

    The front is scaled to the unit square. With two objectives the knee is the point that lies
    farthest from the straight line between the two extremes, on the side of the ideal point (Das
    1999, doi 10.1007/s001580050111); with more it is the point nearest to the ideal point. Ties,
    such as a front of two points or one without a bulge, go to the smallest loss in the first
    column, then in the next, then to the first row. Raises ValueError on NaN or infinity.
    """
    losses = _checked(losses)
    if not len(losses):
        raise ValueError("there is no knee without a row")
    order = front_order(losses)
    scaled = Box.around(losses[order], log_columns).scale(losses[order])
    # On the unit square the line between two extremes is x + y = 1.
    power = 1 if losses.shape[1] == 2 else 2
    distance = (scaled**power).sum(axis=1)
    # Rounded, so that a tie does not hang on the last bit.
    return int(order[np.argmin(distance.round(9))])


def _magnitudes(losses: FloatArray, log_columns: Collection[int]) -> FloatArray:
    scaled = np.array(losses, dtype=np.float64)
    for column in log_columns:
        scaled[:, column] = np.log10(scaled[:, column])
    return scaled


def _checked(losses: FloatArray) -> FloatArray:
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 2:
        raise ValueError(f"losses must be (trials, objectives), not of shape {losses.shape}")
    if not np.isfinite(losses).all():
        raise ValueError("losses must be finite: leave trials without a result out")
    return losses
