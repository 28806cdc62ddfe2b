"""Which nodes are fit for trials: a node whose trials keep dying is left out, and named.

A process that dies tells nothing by itself: the recipe may have killed it. What tells is that other
recipes die on the same node, while elsewhere trials go on.
"""

from collections import defaultdict
from collections.abc import Collection

# So many trials in a row whose processes died on a node, with no epoch from it in between.
MAX_DEATHS_IN_A_ROW = 3


class NodeHealth:
    """Deaths and epochs by node. Nodes are Ray's ids of them."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, set[int]] = defaultdict(set)
        self._died_on: dict[int, set[str]] = defaultdict(set)
        self._working: set[str] = set()
        self._left_out: set[str] = set()

    @property
    def any_died(self) -> bool:
        return bool(self._died_on)

    @property
    def left_out(self) -> frozenset[str]:
        return frozenset(self._left_out)

    def worked(self, node: str) -> None:
        """A trial ended an epoch there."""
        self._working.add(node)
        self._in_a_row.pop(node, None)

    def died(self, node: str, trial: int) -> bool:
        """A trial's process died there; whether the node is left out from now on.

        It is not as long as no other node works: then the fault may lie in what is searched.
        """
        self._died_on[trial].add(node)
        self._in_a_row[node].add(trial)
        if len(self._in_a_row[node]) < MAX_DEATHS_IN_A_ROW or node in self._left_out:
            return False
        if not self._working - self._left_out - {node}:
            return False
        self._left_out.add(node)
        return True

    def avoided_by(self, trial: int, nodes: Collection[str]) -> frozenset[str]:
        """Nodes where a trial is not to run: left out, or it died there.

        nodes: where trials may run. A trial that died on every one of them avoids none for that.
        """
        died_on = self._died_on.get(trial, set()).intersection(nodes)
        if not set(nodes) - died_on - self._left_out:
            died_on = set()
        return frozenset(self._left_out | died_on)
