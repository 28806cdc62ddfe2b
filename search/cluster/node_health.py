"""Finds bad nodes: if trials keep dying on a node, it is left out, and named.

One dead process proves nothing, since its recipe may be the cause. But a node is bad if different
recipes die on it while trials run well elsewhere.
"""

from collections import Counter, defaultdict
from collections.abc import Collection

# Leave out a node after the processes of this many trials died there with no epoch in between.
MAX_DEATHS_IN_A_ROW = 3
# After this many deaths on a node, a trial runs elsewhere. If it left after one, too few trials
# would die on a bad node for it to be found.
MAX_DEATHS_OF_A_TRIAL = 2


class NodeHealth:
    """Counts deaths and epochs by node. Nodes are named by Ray's ids."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, set[int]] = defaultdict(set)
        self._deaths: Counter[tuple[int, str]] = Counter()
        self._working: set[str] = set()
        self._left_out: set[str] = set()

    @property
    def any_died(self) -> bool:
        return bool(self._deaths)

    @property
    def left_out(self) -> frozenset[str]:
        return frozenset(self._left_out)

    def worked(self, node: str) -> list[str]:
        """Note an epoch that ended on a node; returns nodes that are left out from now on."""
        self._working.add(node)
        self._in_a_row.pop(node, None)
        return self._judge()

    def died(self, node: str, trial: int) -> list[str]:
        """Note a process that died on a node; returns nodes that are left out from now on."""
        self._deaths[trial, node] += 1
        self._in_a_row[node].add(trial)
        return self._judge()

    def avoided_by(self, trial: int, nodes: Collection[str]) -> frozenset[str]:
        """Nodes where a trial must not run: they are left out, or it died there more than once.

        nodes: where trials may run. If it died on all of them, it avoids only those left out.
        """
        died_on = {node for node in nodes if self._deaths[trial, node] >= MAX_DEATHS_OF_A_TRIAL}
        if not set(nodes) - died_on - self._left_out:
            died_on = set()
        return frozenset(self._left_out | died_on)

    def _judge(self) -> list[str]:
        """Leave out nodes where trial after trial died, if another node works.

        If no other node works, the recipes may be at fault. Later calls decide again.
        """
        newly = []
        for node, trials in self._in_a_row.items():
            if len(trials) < MAX_DEATHS_IN_A_ROW or node in self._left_out:
                continue
            if self._working - self._left_out - {node}:
                self._left_out.add(node)
                newly.append(node)
        return newly
