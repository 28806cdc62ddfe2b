"""What the nodes of a cluster are doing: their trials, memory and load."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.experimental import internal_kv
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.cluster.nodes import Node, alive_nodes

_NAMESPACE = b"flopwise"
_TOLD = b"search"
# A driver reports every few seconds. If its message is older than this, the driver is gone.
_STALE_SECONDS = 60.0
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """One node at this moment. Shares are 0 to 1. None: no answer, or the node has none."""

    address: str
    is_head: bool
    cpus: float
    gpus: float
    gpu_kind: str | None
    study: str | None
    """The study that is searched on this cluster."""
    trials: tuple[int, ...]
    """Trials that run here and have finished an epoch."""
    left_out: bool
    """Its trials kept dying, so it gets no more."""
    cpu_used: float | None
    memory_used_gb: float | None
    memory_gb: float | None
    gpu_used: float | None
    gpu_memory_used_gb: float | None
    gpu_memory_gb: float | None


def tell_search(study: str, running: Mapping[str, Sequence[int]], left_out: Sequence[str]) -> None:
    """Publish what the driver knows in Ray: trials by node, and nodes that are left out."""
    message = {
        "study": study,
        "running": {node: list(trials) for node, trials in running.items()},
        "left_out": list(left_out),
        "time": time.time(),
    }
    internal_kv._internal_kv_put(
        _TOLD, json.dumps(message).encode(), overwrite=True, namespace=_NAMESPACE
    )


def report_nodes() -> list[NodeReport]:
    """Every node of the Ray that this process is connected to, the head first."""
    nodes = sorted(alive_nodes(), key=lambda node: (not node.is_head, node.address, node.key))
    message, measured = _message(), _measure(nodes)
    return [_report(node, message, measured[node.key]) for node in nodes]


def _report(node: Node, message: Mapping[str, Any], measured: Mapping[str, Any]) -> NodeReport:
    return NodeReport(
        address=node.address,
        is_head=node.is_head,
        cpus=node.resources.get("CPU", 0.0),
        gpus=node.resources.get("GPU", 0.0),
        gpu_kind=node.gpu_kind,
        study=message.get("study"),
        trials=tuple(message.get("running", {}).get(node.key, ())),
        left_out=node.key in message.get("left_out", ()),
        **{name: measured.get(name) for name in _MEASURED},
    )


_MEASURED = (
    *("cpu_used", "memory_used_gb", "memory_gb"),
    *("gpu_used", "gpu_memory_used_gb", "gpu_memory_gb"),
)


def _message() -> dict[str, Any]:
    written = internal_kv._internal_kv_get(_TOLD, namespace=_NAMESPACE)
    message = json.loads(written) if written else {}
    return message if time.time() - message.get("time", 0) < _STALE_SECONDS else {}


def _measure(nodes: Sequence[Node]) -> dict[str, dict[str, Any]]:
    """Ask all nodes at once what they use. A node that does not answer gets an empty dict."""

    # Ray sends the code of a nested function, so the nodes need not have ours.
    @ray.remote(num_cpus=0, max_retries=0)
    def usage() -> dict[str, Any]:
        import shutil
        import subprocess
        import time
        from pathlib import Path

        def cpu_times() -> tuple[float, float]:
            times = [
                float(part) for part in Path("/proc/stat").read_text().split("\n")[0].split()[1:]
            ]
            return sum(times), times[3] + times[4]  # idle, and waiting for disks

        total, idle = cpu_times()
        time.sleep(0.5)
        later, later_idle = cpu_times()
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        memory = {words[0]: float(words[1]) / 1e6 for words in lines}
        used = {
            "cpu_used": 1 - (later_idle - idle) / max(later - total, 1e-9),
            "memory_gb": memory["MemTotal:"],
            "memory_used_gb": memory["MemTotal:"] - memory["MemAvailable:"],
        }
        if shutil.which("nvidia-smi"):
            asked = "--query-gpu=utilization.gpu,memory.used,memory.total"
            command = ["nvidia-smi", asked, "--format=csv,noheader,nounits"]
            message = subprocess.run(
                command, capture_output=True, text=True, timeout=20, check=False
            )
            gpus = [[float(part) for part in row.split(",")] for row in message.stdout.splitlines()]
            if gpus:
                used["gpu_used"] = sum(gpu[0] for gpu in gpus) / len(gpus) / 100
                used["gpu_memory_used_gb"] = sum(gpu[1] for gpu in gpus) / 1e3
                used["gpu_memory_gb"] = sum(gpu[2] for gpu in gpus) / 1e3
        return used

    asked = {
        node.key: usage.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.key, soft=False)
        ).remote()
        for node in nodes
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=_ANSWER_SECONDS)
    return {key: _answer(answer) for key, answer in asked.items()}


def _answer(answer: Any) -> dict[str, Any]:
    try:
        return ray.get(answer, timeout=0)
    except (RayError, TimeoutError):
        return {}
