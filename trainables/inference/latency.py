"""Measures the latency of one image: ONNX Runtime, one thread of this machine."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from trainables.inference.onnx_model import open_exported
from trainables.system.machine import cpu_name

# Runs before the clock starts, since the first ones allocate memory.
_WARM_RUNS = 10
# Run until both are reached: a median of few runs, or of a short time, depends on chance.
_MIN_RUNS = 50
_MIN_SECONDS = 1.0
_MAX_RUNS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one forward pass of one image that is already normalised."""

    median_ms: float
    quartiles_ms: tuple[float, float]
    runs: int
    machine: str
    """The CPU and ONNX Runtime's version. Without them, the figure has no meaning."""


def measure_latency(file: Path) -> Latency:
    """Time an exported model on this thread, after some warm-up runs.

    Other load on the machine disturbs it, so keep a core free.
    """
    exported = open_exported(file, threads=1)
    size, session = exported.about.input_size, exported.session
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    feed = {session.get_inputs()[0].name: image}
    for _ in range(_WARM_RUNS):
        session.run(None, feed)
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < _MAX_RUNS:
        before = time.perf_counter()
        session.run(None, feed)
        after = time.perf_counter()
        seconds.append(after - before)
        if len(seconds) >= _MIN_RUNS and after - started > _MIN_SECONDS:
            break
    low, median, high = (1000 * float(value) for value in np.percentile(seconds, (25, 50, 75)))
    return Latency(
        median_ms=median,
        quartiles_ms=(low, high),
        runs=len(seconds),
        machine=machine_and_runtime(),
    )


def machine_and_runtime() -> str:
    """The CPU as the system names it, and the runtime that is timed."""
    return f"{cpu_name()}, ONNX Runtime {onnxruntime.__version__}"
