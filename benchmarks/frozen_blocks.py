"""What the cache of frozen features brings: seconds an epoch with it and without it, side by side.

    python benchmarks/frozen_blocks.py [--unfrozen 0 2 5 8] [--epochs 2]

MobileNetV2 with ImageNet weights on ../shared/data/animals25 (2,100 photographs to train, 450 to
validate), 96 px, batches of 32, Adam, one thread, one training at a time, the cache empty at the
start. Each recipe is trained through the cache (`shared`) and with the whole model in every step
(`whole`); seconds are the medians of all epochs after the first, which is told by itself, as the
features are computed in it. Skipped with a line where photographs or weights are absent.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from comparison.images import ANIMALS, WEIGHTS
from rich.console import Console
from rich.table import Table

from spaces.recipe import Recipe
from trainables.data.dataset import ImageData
from trainables.prepare import prepare
from trainables.training import EpochMetrics, Training, use_threads


def main() -> None:
    parser = argparse.ArgumentParser(description="Epochs with and without shared features.")
    parser.add_argument("--unfrozen", type=int, nargs="+", default=[0, 2, 5, 8])
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    if not (ANIMALS.exists() and WEIGHTS.exists()):
        sys.exit(f"skipped: {ANIMALS} or {WEIGHTS} is not there")
    table = Table(box=None, pad_edge=False)
    for heading in ("unfrozen", "whole: s an epoch", "shared: s an epoch", "first epoch"):
        table.add_column(heading, justify="right")
    table.add_column("times", justify="right")
    table.add_column("accuracies, whole and shared", justify="right")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLOPWISE_CACHE"] = folder
        use_threads(1)
        data = prepare(str(ANIMALS), Path(folder) / "data", size=96)
        deepest = max(options.unfrozen)
        for unfrozen in options.unfrozen:
            recipe = Recipe(
                model="mobilenet_v2",
                weights=str(WEIGHTS),
                input_size=96,
                unfrozen=unfrozen,
                epochs=options.epochs + 1,
            )
            shared = _train(recipe, data, limit=None, deepest=deepest)
            whole = _train(recipe, data, limit="0", deepest=deepest)
            seconds = [statistics.median(m.seconds for m in each[1:]) for each in (whole, shared)]
            table.add_row(
                str(unfrozen),
                *(f"{one:.2f}" for one in seconds),
                f"{shared[0].seconds:.1f}",
                f"{seconds[0] / seconds[1]:.1f}",
                f"{whole[-1].accuracy:.4f}, {shared[-1].accuracy:.4f}",
            )
    Console(width=110).print(table)


def _train(
    recipe: Recipe, data: ImageData, *, limit: str | None, deepest: int
) -> list[EpochMetrics]:
    """Train a recipe; limit: the bound of the cache, "0" for none at all."""
    os.environ.pop("FLOPWISE_FEATURES_GB", None)
    if limit is not None:
        os.environ["FLOPWISE_FEATURES_GB"] = limit
    training = Training(recipe, data, deepest_unfrozen=deepest)
    while not training.done:
        training.run_epoch()
    return training.history


if __name__ == "__main__":
    main()
