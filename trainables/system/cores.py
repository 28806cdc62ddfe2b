"""The processors that this process may use."""

import os


def num_cores() -> int:
    """Count the cores left by taskset, containers and the like; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
