"""What a study is expected to take: a table for people, plain data for programs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from analysis.columns import describe_recipe
from search.planning.forecast import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTime:
    """One probe's time, measured and foretold."""

    recipe: dict[str, Any]
    epoch_seconds: float
    """For one epoch over all images, without augmentation."""
    foretold_seconds: float
    """By arithmetic alone, for a machine of ordinary speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a study will take. Ranges go from the 10th to the 90th percentile."""

    study: str
    workers: int
    resources: str | None
    """What `resources: auto` would choose, and why; None if resources are written out."""
    trials: Range
    trial_seconds: Range
    """Over the recipes."""
    hours: Range
    """Wall time, including the start of Ray and of the workers."""
    worker_hours: Range
    disk_gb: float
    """Kept checkpoints, tables, storage, and resized images that are not in the cache yet."""
    free_disk_gb: float
    memory_gb: float
    """For Ray and all workers, if each trains its largest recipe."""
    machine_memory_gb: float
    gpu_memory_gb: float
    """For one worker with its largest recipe; 0 on the CPU."""
    probes: tuple[ProbeTime, ...]
    doubt: str
    """The largest source of uncertainty, in a sentence."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for programs."""
        return asdict(self)


def estimate_table(estimate: Estimate) -> Table:
    """An estimate as a table that a person can read."""
    table = Table(box=None, show_header=False, title=estimate.study, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    num_workers = f"{estimate.workers} worker{'' if estimate.workers == 1 else 's'}"
    if estimate.resources:
        table.add_row("resources", estimate.resources)
    table.add_row("trials", _write_range(estimate.trials, lambda number: f"{number:.0f}"))
    table.add_row("per trial", _write_range(estimate.trial_seconds, _duration))
    table.add_row("time", f"{_write_range(estimate.hours, _hours)} on {num_workers}")
    table.add_row("worker time", _write_range(estimate.worker_hours, _hours))
    table.add_row("disk", "up to " + _of(estimate.disk_gb, estimate.free_disk_gb, "free"))
    memory = _of(estimate.memory_gb, estimate.machine_memory_gb, "in this machine")
    table.add_row("memory", f"up to {memory}")
    if estimate.gpu_memory_gb:
        table.add_row("GPU memory", f"up to {_size(estimate.gpu_memory_gb)} per trial")
    for number, probe in enumerate(estimate.probes, start=1):
        words = describe_recipe(probe.recipe, ("input_size", "width", "unfrozen", "batch_size"))
        took = f"{_duration(probe.epoch_seconds)} per epoch"
        foretold = f"{_duration(probe.foretold_seconds)} by arithmetic alone"
        table.add_row(f"probe {number}", f"{words}: {took}; {foretold}")
    table.add_row("main uncertainty", estimate.doubt)
    return table


def _write_range(numbers: Range, write: Callable[[float], str]) -> str:
    low, middle, high = (write(number) for number in (numbers.low, numbers.middle, numbers.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def _hours(hours: float) -> str:
    return _duration(3600 * hours)


def _duration(seconds: float) -> str:
    """Seconds with two digits: 0.34 s, 25 min, 3.4 h, 12 days."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds)} s"


def _two_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def _of(needed: float, there: float, where: str) -> str:
    warning = ": too much" if needed > there else ""
    return f"{_size(needed)} of {_size(there)} {where}{warning}"


def _size(gb: float) -> str:
    return f"{_two_digits(gb)} GB" if gb >= 1 else f"{_two_digits(1000 * gb)} MB"
