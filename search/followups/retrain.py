"""Trains one recipe outside of a search, with the settings that an exported recipe records."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from search.followups.export import recorded_numbers
from spaces.errors import UserError
from spaces.recipe import read_recipe
from trainables.data.dataset import open_data
from trainables.system.failures import describe_failure, is_out_of_memory
from trainables.system.host_memory import keep_freed_memory
from trainables.training import (
    EpochMetrics,
    Training,
    default_device,
    save_model,
    train,
    use_threads,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained:
    """A trained recipe, with the accuracy that its search recorded."""

    training: Training
    accuracy: float
    """After the last epoch, on the validation split."""
    recorded: float | None
    """The accuracy of the exported trial; None for a recipe written by hand or other data."""


def retrain(
    recipe: Path,
    data: Path,
    report: Callable[[EpochMetrics], None],
    *,
    threads: int | None = None,
    device: str | None = None,
    out: Path | None = None,
) -> Retrained:
    """Train a recipe file on prepared data.

    threads, device: by default the exported trial's, or else all cores and the first GPU. With the
    same ones on the same machine, an exported recipe reaches its accuracy again (on a GPU nearly
    so, since cuDNN does not promise the same sums). out: where to write the state dict. Raises
    UserError if the recipe, the data or the weights don't work.
    """
    read, numbers = read_recipe(recipe), recorded_numbers(recipe)
    opened = open_data(data)
    if out is not None and not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}")
    chosen = torch.device(device or numbers.get("device") or default_device())
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device: there is no {chosen} here; use --device cpu")
    use_threads(threads or numbers.get("threads"))
    keep_freed_memory()
    try:
        training = train(read, opened, report, device=chosen)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(describe_failure(error)) from None
        raise
    if out is not None:
        save_model(training, out)
    same_data = numbers.get("data_digest") == opened.digest
    return Retrained(
        training=training,
        accuracy=training.history[-1].accuracy,
        recorded=numbers.get("accuracy") if same_data else None,
    )
