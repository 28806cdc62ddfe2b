"""The name of this machine's CPU, as the system gives it."""

import os
import platform
from pathlib import Path


def cpu_name() -> str:
    """The CPU's name, or its architecture if the system does not tell the name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_name() -> str:
    """The CPU's name and the machine's number of cores."""
    return f"{cpu_name()}, {os.cpu_count()} cores"
