"""The nodes that a search may run on, as Ray lists them, and how many trials fit on one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.study.study import Resources

# Where `ray up` leaves its file on the head, for the autoscaler there.
BOOTSTRAP_FILE = Path("~/ray_bootstrap_config.yaml")
_HEAD_MARK = "node:__internal_head__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine with a Ray that is alive."""

    key: str
    """Ray's id of it: a machine that comes back has a new one."""
    address: str
    resources: Mapping[str, float]
    """All that it has, also what is in use: CPU, GPU, ..."""
    is_head: bool = False

    @property
    def gpu_kind(self) -> str | None:
        """What Ray calls its GPUs, A10G for instance; None without one, or one that is unknown."""
        kinds = [name for name in self.resources if name.startswith("accelerator_type:")]
        return kinds[0].partition(":")[2] if kinds else None


def alive_nodes() -> list[Node]:
    """The nodes of the Ray that this process is connected to."""
    import ray

    return [
        Node(
            key=node["NodeID"],
            address=node["NodeManagerAddress"],
            resources=node["Resources"],
            is_head=_HEAD_MARK in node["Resources"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def trials_that_fit(
    resources: Resources, available: Mapping[str, float], *, keep_a_core: bool = False
) -> int:
    """How many trials run at once on a node with so much.

    keep_a_core: for the driver to measure on, where there is more than one trial's.
    """
    by_cpus = int(available.get("CPU", 0) / resources.cpus)
    if keep_a_core and by_cpus:
        by_cpus = max(1, int((available["CPU"] - 1) / resources.cpus))
    if not resources.gpus:
        return by_cpus
    gpus = available.get("GPU", 0)
    # A part of a GPU is a part of one and the same GPU.
    if resources.gpus < 1:
        return min(by_cpus, int(gpus) * int(1 / resources.gpus + 1e-9))
    return min(by_cpus, int(gpus / resources.gpus))


def planned_trials(resources: Resources, bootstrap: Path = BOOTSTRAP_FILE) -> int:
    """How many trials would run at once on all nodes that the autoscaler may bring.

    bootstrap: the cluster file as `ray up` prepared it. 0 where there is none: no node comes then.
    Of machines of one's own nothing is known before they have come, and each counts as one trial.
    """
    try:
        config = json.loads(bootstrap.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    if config["provider"]["type"] == "local":
        return len(config["provider"].get("worker_ips", []))
    return _fill(resources, config)


def _fill(resources: Resources, config: Mapping[str, Any]) -> int:
    """Take the kinds of nodes with room for most trials first, up to the file's max_workers."""
    kinds = [
        (trials_that_fit(resources, kind.get("resources") or {}), kind.get("max_workers", 0))
        for name, kind in config["available_node_types"].items()
        if name != config["head_node_type"]
    ]
    nodes_left, trials = config["max_workers"], 0
    for on_one, most in sorted(kinds, reverse=True):
        taken = min(most, nodes_left)
        nodes_left -= taken
        trials += taken * on_one
    return trials
