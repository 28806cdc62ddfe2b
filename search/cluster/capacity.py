"""How many trials may run at once on the present nodes, and how many may wait for more nodes.

On one machine this never changes. On a cluster nodes come and go, and trials that wait make the
autoscaler start more. But these trials are proposed before the running ones have results. So no
more trials wait than run, and none waits once every planned node is there.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence

from search.cluster.nodes import Node, alive_nodes, planned_trials, trials_that_fit
from search.study.study import Resources
from spaces.errors import UserError

_log = logging.getLogger("flopwise")
_ASK_PERIOD_SECONDS = 1.0


class Capacity:
    """Counts the trials that fit on the nodes. Nodes that are left out do not count."""

    def __init__(
        self,
        resources: Resources,
        *,
        keep_a_core: bool = False,
        planned: int = 0,
        nodes: Callable[[], Sequence[Node]] = alive_nodes,
        is_left_out: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """keep_a_core: leave one free on the head, where the driver measures latency.

        planned: trials that fit on all planned nodes. is_left_out: takes a node's key.
        """
        self._resources = resources
        self._keep_a_core = keep_a_core
        self._planned = planned
        self._nodes = nodes
        self._is_left_out = is_left_out
        self._found: Sequence[Node] = ()
        self._ask_again = -math.inf

    @property
    def nodes(self) -> list[Node]:
        """The nodes where at least one trial fits."""
        return [node for node in self._now() if self._on(node)]

    @property
    def workers(self) -> int:
        """Trials that fit on the present nodes."""
        return sum(self._on(node) for node in self._now())

    def _now(self) -> Sequence[Node]:
        now = time.monotonic()
        if now >= self._ask_again:
            self._found = self._nodes()
            alone = len(self._found) == 1 and self._found[0].is_head and not self._planned
            # A single machine never changes. Don't ask again, since its Ray may have died.
            self._ask_again = math.inf if alone else now + _ASK_PERIOD_SECONDS
        return self._found

    def _on(self, node: Node) -> int:
        if self._is_left_out(node.key):
            return 0
        keep_a_core = self._keep_a_core and node.is_head
        return trials_that_fit(self._resources, node.resources, keep_a_core=keep_a_core)

    @property
    def most(self) -> int:
        """Trials that may begin: those that fit, and those that wait for nodes."""
        workers = self.workers
        return workers + min(max(workers, 1), max(0, self._planned - workers))


def open_capacity(
    resources: Resources,
    *,
    keep_a_core: bool = False,
    is_left_out: Callable[[str], bool] = lambda _: False,
    nodes: Callable[[], Sequence[Node]] = alive_nodes,
) -> Capacity:
    """The capacity of this process's Ray. Raises UserError if no trial will ever fit."""
    capacity = Capacity(
        resources,
        keep_a_core=keep_a_core,
        planned=planned_trials(resources),
        is_left_out=is_left_out,
        nodes=nodes,
    )
    found = nodes()
    if not capacity.most:
        raise UserError(_what_is_lacking(resources, found))
    _warn_of_idle_gpus(resources, sum(node.resources.get("GPU", 0) for node in found))
    if keep_a_core:
        _warn_of_disturbed_latency(resources, found)
    return capacity


def workers_at_most(resources: Resources, available: Mapping[str, float]) -> int:
    """How many trials run at once on one machine. Raises UserError if none fits."""
    _warn_of_idle_gpus(resources, available.get("GPU", 0))
    workers = trials_that_fit(resources, available)
    if not workers:
        machine = Node(key="", address="", resources=available)
        raise UserError(_what_is_lacking(resources, [machine]))
    return workers


def _warn_of_idle_gpus(resources: Resources, gpus: float) -> None:
    if gpus and not resources.gpus:
        _log.warning("there are %g GPUs, but the study uses none; set resources.gpus", gpus)


def _warn_of_disturbed_latency(resources: Resources, nodes: Sequence[Node]) -> None:
    cores = next((node.resources.get("CPU", 0) for node in nodes if node.is_head), 0)
    if 0 < cores < resources.cpus + 1:
        way_out = f"; resources.cpus: {cores - 1:g} leaves one free" if cores > 1 else ""
        _log.warning("training uses every core, which disturbs the measured latency%s", way_out)


def _what_is_lacking(resources: Resources, nodes: Sequence[Node]) -> str:
    if not nodes:
        return "Ray has no node left: its processes were killed before the search began; try again"
    for kind, wanted in (("CPU", resources.cpus), ("GPU", resources.gpus)):
        most = max((node.resources.get(kind, 0) for node in nodes), default=0)
        if wanted > most:
            where = " on any node" if len(nodes) > 1 else ""
            there = f"there are {most:g}{where}"
            return f"resources.{kind.lower()}s: a trial takes {wanted:g}, but {there}"
    return (
        f"resources: a trial takes {resources.cpus} CPUs and {resources.gpus:g} GPUs, but no node"
        " has both"
    )
