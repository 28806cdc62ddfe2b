"""Keeps track of recipes that have a result or are being trained, so none is trained twice."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from optuna.trial import TrialState

from search.decisions.trial_record import TrialRecord


class RecipeResults:
    """Trials by recipe: those with a result, those that run, and those that wait for one."""

    def __init__(self, earlier: Sequence[TrialRecord] = ()) -> None:
        """earlier: complete trials of earlier runs."""
        self._results: dict[str, TrialRecord] = {}
        self._running: dict[str, int] = {}
        self._followers: dict[int, list[int]] = defaultdict(list)
        for record in earlier:
            self._results.setdefault(record.key, record)

    @property
    def running(self) -> Collection[int]:
        """The numbers of the trials that run, or wait to go on."""
        return self._running.values()

    def of(self, record: TrialRecord) -> TrialRecord | None:
        """The complete or stopped trial with the same recipe; None if there is none."""
        return self._results.get(record.key)

    def begin(self, record: TrialRecord) -> None:
        """Note that a trial is trained from now on."""
        self._running[record.key] = record.number

    def wait(self, record: TrialRecord) -> bool:
        """If a trial with the same recipe runs, wait for it; returns whether it does."""
        leader = self._running.get(record.key)
        if leader is None:
            return False
        self._followers[leader].append(record.number)
        return True

    def end(self, record: TrialRecord) -> None:
        """Note that a trial is over. It need not have begun."""
        if record.recipe is not None and self._running.get(record.key) == record.number:
            del self._running[record.key]

    def add(self, record: TrialRecord) -> None:
        """Keep the result of a trial, unless it failed or never began. The first one counts."""
        if record.state != TrialState.FAIL and not record.refused:
            self._results.setdefault(record.key, record)

    def take_followers(self, record: TrialRecord) -> list[int]:
        """Remove and return the numbers of the trials that wait for this one."""
        return self._followers.pop(record.number, [])
