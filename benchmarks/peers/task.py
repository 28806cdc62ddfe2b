"""What every peer is given and what it hands back: one task, one space, one file of results.

The space holds the six dimensions that are searched; `input_size` is one where several are given.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

BATCH_SIZES = (16, 32, 64)
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SCHEDULERS = ("constant", "cosine", "step")
LEARNING_RATES = (1e-4, 1e-2)
"""Ends of a log-uniform range."""
MOST_UNFROZEN = 8
"""Of MobileNetV2's 19 blocks, the last 0 to 8 train with the head."""
DIMENSIONS = (
    *("input_size", "batch_size", "learning_rate"),
    *("optimizer", "scheduler", "unfrozen"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One search that a peer is to run."""

    images: Path
    """A folder for torchvision's ImageFolder: train/CLASS/... and validation/CLASS/..."""
    weights: Path
    """A state dict of MobileNetV2's features."""
    input_sizes: tuple[int, ...]
    trials: int
    epochs: int
    workers: int
    """Trials at a time, each with one thread."""
    seed: int
    out: Path
    """The JSON file to write."""

    @property
    def constants(self) -> dict[str, Any]:
        """What is the same in every trial, as `plain_training.train` takes it."""
        return {
            "images": str(self.images),
            "weights": str(self.weights),
            "epochs": self.epochs,
            "seed": self.seed,
        }


def read_task(description: str) -> Task:
    """Read a task from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--input-sizes", type=int, nargs="+", default=[96])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("peer.json"))
    options = vars(parser.parse_args())
    options["input_sizes"] = tuple(options["input_sizes"])
    for name in ("images", "weights", "out"):
        options[name] = options[name].absolute()
    return Task(**options)


def trial_row(
    config: dict[str, Any],
    *,
    accuracy: float,
    gflops: float,
    epochs: int,
    began: float,
    ended: float,
) -> dict[str, Any]:
    """One trial as it is handed back; began, ended: seconds since 1970."""
    return {
        "recipe": {name: config[name] for name in DIMENSIONS},
        "accuracy": accuracy,
        "gflops": gflops,
        "epochs": epochs,
        "began": began,
        "ended": ended,
    }


def write_trials(task: Task, rows: Sequence[dict[str, Any]], packages: Sequence[str]) -> None:
    """Write the result file: trials in the order in which they were proposed, and versions."""
    versions = {package: version(package) for package in (*packages, "torch", "torchvision")}
    task.out.write_text(json.dumps({"versions": versions, "trials": list(rows)}, indent=1))
