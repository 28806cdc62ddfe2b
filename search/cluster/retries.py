"""Which trials begin again after their process died, when, and which of them alone."""

import time
from collections import Counter
from collections.abc import Callable

from search.cluster.worker_failures import (
    is_broken_device,
    is_lost_machine,
    is_low_memory,
    is_worker_death,
)

# Fail a trial when its process has died this often without finishing another epoch: then its recipe
# is the likely cause.
MAX_WORKER_DEATHS = 3
# Give up on a trial after it has lost this many machines. Spot machines disappear often, so the
# limit is high.
MAX_LOST_MACHINES = 10
# Wait this long before the last attempt of a trial if memory ran low: another program may need it
# for a moment only.
_PAUSE_SECONDS = 15.0


class Retries:
    """Counts how often a trial's process died, or lost its machine, since its last new epoch."""

    def __init__(
        self, *, num_nodes: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """num_nodes: on how many nodes trials may run now."""
        self._num_nodes = num_nodes
        self._clock = clock
        self._deaths: Counter[int] = Counter()
        self._lost_machines: Counter[int] = Counter()
        self._not_before: dict[int, float] = {}

    def worked(self, number: int) -> None:
        """Note that a trial finished an epoch."""
        for counts in (self._deaths, self._lost_machines, self._not_before):
            counts.pop(number, None)

    def should_continue(self, number: int, text: str) -> bool:
        """Whether a trial begins again after its process ended with this error text of Ray's."""
        if is_lost_machine(text):
            self._lost_machines[number] += 1
            return self._lost_machines[number] < MAX_LOST_MACHINES
        if not self.was_killed(text):
            return False
        self._deaths[number] += 1
        if is_low_memory(text) and self._is_last_attempt(number):
            self._not_before[number] = self._clock() + _PAUSE_SECONDS
        return self._deaths[number] < MAX_WORKER_DEATHS

    def was_killed(self, text: str) -> bool:
        """Whether something outside of the trial ended its process.

        A broken GPU counts if there are other nodes.
        """
        return is_worker_death(text) or (is_broken_device(text) and self._num_nodes() > 1)

    def may_begin(self, number: int) -> bool:
        """Whether enough time has passed since the trial's process died."""
        return self._clock() >= self._not_before.get(number, 0.0)

    def needs_the_machine(self, number: int) -> bool:
        """Whether a trial runs alone: at its last attempt, so that it has all of the memory.

        On several nodes, `NodeHealth` moves it to another node instead.
        """
        return self._is_last_attempt(number) and self._num_nodes() == 1

    def _is_last_attempt(self, number: int) -> bool:
        return self._deaths[number] == MAX_WORKER_DEATHS - 1
