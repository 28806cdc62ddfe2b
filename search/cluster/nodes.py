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
    """One machine with a running Ray."""

    key: str
    """Ray's id. A machine that comes back gets a new one."""
    address: str
    resources: Mapping[str, float]
    """Everything that it has, whether in use or free: CPU, GPU, ..."""
    is_head: bool = False

    @property
    def gpu_kind(self) -> str | None:
        """Ray's name of its GPUs, such as A10G; None if it has no GPU, or an unknown one."""
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
    """How many trials run at once on a node with these resources.

    keep_a_core: leave a core free for the driver's measurements, if a trial still fits.
    """
    by_cpus = int(available.get("CPU", 0) / resources.cpus)
    if keep_a_core and by_cpus:
        by_cpus = max(1, int((available["CPU"] - 1) / resources.cpus))
    if not resources.gpus:
        return by_cpus
    gpus = available.get("GPU", 0)
    # Ray takes a part of a GPU from a single GPU.
    if resources.gpus < 1:
        return min(by_cpus, int(gpus) * int(1 / resources.gpus + 1e-9))
    return min(by_cpus, int(gpus / resources.gpus))


def planned_trials(resources: Resources, bootstrap: Path = BOOTSTRAP_FILE) -> int:
    """How many trials would run at once on all nodes that the autoscaler may start.

    bootstrap: the cluster file as `ray up` prepared it. 0 if there is none, since no node comes
    then. A user's own machines (provider local) count as one trial each: the file does not say
    what they have.
    """
    try:
        config = json.loads(bootstrap.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    if config["provider"]["type"] == "local":
        return len(config["provider"].get("worker_ips", []))
    return _fill(resources, config)


def _fill(resources: Resources, config: Mapping[str, Any]) -> int:
    """Count nodes that fit the most trials first, up to the file's max_workers."""
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
