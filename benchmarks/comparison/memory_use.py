"""Peak memory of a command and all the processes that it begins, from Linux's /proc.

PSS, the proportional set size: memory that several processes map counts once, in equal parts. RSS
counts it in each of them. Both see mapped pages of files, and not the rest of the page cache.
"""

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PERIOD_SECONDS = 0.25
_PROC = Path("/proc")
# Ray's own among the processes that it names; the others are named by the trial that they run.
_NO_TRIALS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Peaks of samples four times a second, in MB of 1e6 bytes."""

    seconds: float
    node_pss_mb: float
    """The largest sum over all processes at one time."""
    trial_pss_mb: float
    """Of the largest trial's process; 0 where there was none."""
    trial_rss_mb: float
    most_trials: int
    """Processes of trials at one time."""


def measure_memory(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
) -> MemoryUse:
    """Run a command to its end. Raises CalledProcessError where it fails; its output is in log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    node = trial_pss = trial_rss = 0.0
    most_trials = 0
    with log.open("w") as output:
        process = subprocess.Popen(
            list(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
        while process.poll() is None:
            sizes = {pid: _sizes_mb(pid) for pid in _descendants(process.pid)}
            trials = [sizes[pid] for pid in sizes if _is_trial(pid)]
            node = max(node, sum(pss for pss, _ in sizes.values()))
            trial_pss = max([trial_pss, *(pss for pss, _ in trials)])
            trial_rss = max([trial_rss, *(rss for _, rss in trials)])
            most_trials = max(most_trials, len(trials))
            time.sleep(_PERIOD_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return MemoryUse(
        seconds=time.monotonic() - started,
        node_pss_mb=node,
        trial_pss_mb=trial_pss,
        trial_rss_mb=trial_rss,
        most_trials=most_trials,
    )


def _descendants(root: int) -> list[int]:
    """The process and everything that it began, as far as that is still its offspring."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (stat := _read(folder / "stat")):
            # The second field, a name in brackets, may hold anything.
            parent = int(stat.rpartition(")")[2].split()[1])
            children[parent].append(int(folder.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def _sizes_mb(pid: int) -> tuple[float, float]:
    """PSS and RSS of a process; 0 of one that has just ended."""
    lines = _read(_PROC / str(pid) / "smaps_rollup").splitlines()
    sizes = {"Pss": 0.0, "Rss": 0.0}
    for line in lines:
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) * 1024 / 1e6
    return sizes["Pss"], sizes["Rss"]


def _is_trial(pid: int) -> bool:
    title = _read(_PROC / str(pid) / "cmdline")
    return title.startswith("ray::") and not title.startswith(_NO_TRIALS)


def _read(file: Path) -> str:
    """A file of a process that may be gone by now."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
