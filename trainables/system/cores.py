"""The processors that this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc/self")


def num_cores() -> int:
    """Count the cores that affinity (taskset) and CPU quotas (containers) leave; at least 1.

    A quota of 2.5 cores counts as 2: with three threads, some would wait for the next period.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def cpu_quota(proc: Path = _PROC) -> float | None:
    """The smallest CPU quota of this process's control groups, in cores; None without one.

    Reads versions 1 and 2. proc: the process's folder below /proc.
    """
    quotas = [quota for group in _groups(proc) if (quota := _quota_of(group)) is not None]
    return min(quotas, default=None)


def _groups(proc: Path) -> Iterator[Path]:
    """The folders of the groups that may limit the CPU: the process's own, and those above it."""
    paths: dict[str, str] = {}
    for line in _lines(proc / "cgroup"):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):  # version 2 has one group, with no controllers
            paths[controller] = path
    for line in _lines(proc / "mountinfo"):
        # ... mount-id parent device root mount-point options - kind source super-options
        mount, _, kind = line.partition(" - ")
        words, (kind, *_, options) = mount.split(), kind.split()
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller is None or controller not in paths:
            continue
        if controller and controller not in options.split(","):
            continue
        root, mount_point = words[3].rstrip("/"), Path(words[4])
        # A container may see the path of its group on the host, of which only the root is mounted.
        path = paths[controller]
        inside = path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else ""
        group = mount_point / inside.strip("/")
        yield from (group, *list(group.parents)[: len(Path(inside.strip("/")).parts)])


def _quota_of(group: Path) -> float | None:
    """Read cpu.max (version 2: quota and period, or max), or its two files of version 1."""
    words = " ".join(_lines(group / "cpu.max")).split()
    if not words:
        words = [
            *_lines(group / "cpu.cfs_quota_us"),
            *_lines(group / "cpu.cfs_period_us"),
        ]
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
