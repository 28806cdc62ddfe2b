"""How a run's front came about: its hypervolume after every trial that made it grow."""

from dataclasses import dataclass

import numpy as np

from analysis.pareto.front import Box, FloatArray, IntArray, pareto_front
from analysis.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontHistory:
    """The steps in which a front grew, one or more."""

    finished: IntArray
    """(steps,), trials finished by then, rising."""
    seconds: FloatArray | None
    """(steps,), wall time of the search by then; None where a run did not record it."""
    hypervolumes: FloatArray
    """(steps,), share of the box of all finished trials that was dominated, 0 to 1, rising."""
    num_finished: int
    total_seconds: float | None
    """When the last trial finished."""


def front_history(run: Run) -> FrontHistory:
    """Follow the hypervolume over a run's finished trials, in the order in which they ended.

    All steps are measured in one box, that of every finished trial (`analysis.pareto.front.Box`),
    so that they compare with each other, and with no other run. Raises UserError where none is
    finished.
    """
    finished = run.require_finished()
    seconds = finished["search_seconds"].to_numpy(dtype=float)
    timed = bool(np.isfinite(seconds).all())
    order = np.argsort(seconds, kind="stable") if timed else np.arange(len(finished))
    losses = run.losses()
    box = Box.around(losses, run.log_columns)
    front = np.empty((0, losses.shape[1]))
    counts, shares = [], []
    for count, row in enumerate(losses[order], start=1):
        if (front <= row).all(axis=1).any():
            continue
        front = np.vstack([front, row])
        front = front[pareto_front(front)]
        counts.append(count)
        shares.append(box.share(front))
    steps = np.array(counts, dtype=np.intp)
    return FrontHistory(
        finished=steps,
        seconds=seconds[order][steps - 1] if timed else None,
        hypervolumes=np.array(shares),
        num_finished=len(losses),
        total_seconds=float(seconds.max()) if timed else None,
    )
