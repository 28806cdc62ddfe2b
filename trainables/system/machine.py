"""What this machine computes with, as the system names it."""

import os
import platform
from pathlib import Path


def cpu_name() -> str:
    """The CPU's name; its architecture where the system does not tell more."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_name() -> str:
    """The CPU's name, and how many cores the machine has."""
    return f"{cpu_name()}, {os.cpu_count()} cores"
