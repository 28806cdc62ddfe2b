"""The time that a search still takes: foretold by arithmetic, corrected by what was seen."""

from collections.abc import Sequence

import numpy as np

from search.decisions.trial_record import TrialRecord
from search.engine import Progress
from search.planning.calibration import Calibration, Timed, calibrate
from search.planning.forecast import epochs_left_by_stopping
from trainables.costing.effort import Effort

# The latest trials show how fast the machine is now, and how long a trial takes. For the former, a
# resume has to count their models again.
_MOST_TIMED, _MOST_SEEN = 32, 128


def time_left(progress: Progress) -> float | None:
    """Estimate the seconds until the budget is used up; None where it is too early to tell.

    Before the first epoch, the seconds are those of a machine of ordinary speed.
    """
    budget = progress.study.budget
    estimates = []
    if budget.hours is not None:
        estimates.append(budget.hours * 3600 - progress.seconds)
    if budget.trials is not None:
        num_new = max(0, budget.trials - progress.ledger.num_begun)
        estimates.append(_until_trials_end(progress, num_new))
    return min((each for each in estimates if each is not None), default=None)


def _until_trials_end(progress: Progress, num_new: int) -> float | None:
    """Seconds until the running trials and so many new ones are over.

    Running trials go on to their last epoch. A new one takes as long as those before it on average.
    Paused trials count there with what they took so far; most never go on.
    """
    running = [record for record in progress.ledger.unfinished() if record.recipe is not None]
    others = [
        record
        for record in progress.ledger.records.values()
        if record.epochs and (record.state.is_finished() or record.paused is not None)
    ][-_MOST_SEEN:]
    timed = [*others[-_MOST_TIMED:], *running]
    efforts = {
        record.number: progress.effort(record.recipe)
        for record in timed
        if record.recipe is not None
    }
    calibration = _calibrate(timed, efforts)
    paid = {
        name
        for record in timed
        if record.known_epochs
        for name in efforts[record.number].begun(len(record.known_epochs))
    }
    left, took = [], [record.seconds for record in others]
    for record in running:
        assert record.recipe is not None
        effort, factor = efforts[record.number], calibration.factor(record.recipe.model)
        epochs, known = record.recipe.epochs, len(record.known_epochs)
        left.append(factor * effort.left(epochs, done=known, paid=paid))
        paid.update(effort.begun(known))
        stopped = factor * effort.alone(epochs_left_by_stopping(progress.study, epochs))
        took.append(max(record.seconds, stopped))
    if not took:
        return None
    by_workers = (sum(left) + num_new * sum(took) / len(took)) / progress.num_workers
    return max([by_workers, *left])


def _calibrate(seen: Sequence[TrialRecord], efforts: dict[int, Effort]) -> Calibration:
    # The median epoch: the first one may compute frozen features, and a later one prepares int8.
    return calibrate(
        Timed(
            record.recipe.model,
            float(np.median([metrics.seconds for metrics in record.known_epochs])),
            efforts[record.number].epoch,
        )
        for record in seen
        if record.recipe is not None and record.known_epochs
    )
