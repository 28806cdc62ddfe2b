"""Which nodes are fit for trials: a node whose trials keep dying is left out, and named.

A process that dies tells nothing by itself: the recipe may have killed it. What tells is that other
recipes die on the same node, while elsewhere trials go on.
"""

from collections import Counter, defaultdict
from collections.abc import Collection

# So many trials in a row whose processes died on a node, with no epoch from it in between.
MAX_DEATHS_IN_A_ROW = 3
# So many deaths of a trial on a node before it goes elsewhere: after one, a node that kills all it
# gets would be spared before enough trials had died there to tell.
MAX_DEATHS_OF_A_TRIAL = 2


class NodeHealth:
    """Deaths and epochs by node. Nodes are Ray's ids of them."""

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
        """A trial ended an epoch there; returns the nodes that are left out from now on."""
        self._working.add(node)
        self._in_a_row.pop(node, None)
        return self._judge()

    def died(self, node: str, trial: int) -> list[str]:
        """A trial's process died there; returns the nodes that are left out from now on."""
        self._deaths[trial, node] += 1
        self._in_a_row[node].add(trial)
        return self._judge()

    def avoided_by(self, trial: int, nodes: Collection[str]) -> frozenset[str]:
        """Nodes where a trial is not to run: left out, or it died there more than once.

        nodes: where trials may run. A trial that died on every one of them avoids none for that.
        """
        died_on = {node for node in nodes if self._deaths[trial, node] >= MAX_DEATHS_OF_A_TRIAL}
        if not set(nodes) - died_on - self._left_out:
            died_on = set()
        return frozenset(self._left_out | died_on)

    def _judge(self) -> list[str]:
        """Leave out where trial after trial died, as long as another node works.

        Otherwise the fault may lie in what is searched; where that shows later, so does this.
        """
        newly = []
        for node, trials in self._in_a_row.items():
            if len(trials) < MAX_DEATHS_IN_A_ROW or node in self._left_out:
                continue
            if self._working - self._left_out - {node}:
                self._left_out.add(node)
                newly.append(node)
        return newly
