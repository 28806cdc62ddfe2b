"""A trial's model, from its checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.blocks import freeze
from trainables.images import ImageData
from trainables.models import build_model
from trainables.phases import Int8Phase
from trainables.training import EpochMetrics, use_threads

CHECKPOINT_FILE = "training.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a trial trained."""

    recipe: Recipe
    model: nn.Module
    """From normalised images to logits, in evaluation, on the CPU; int8 with qat."""
    accuracy: float
    """Of its last epoch, on the validation split; a fraction of 1."""
    onnx: bytes | None = None
    """With qat: the content of the ONNX file that has this accuracy."""


def load_trained(
    recipe: Recipe, data: ImageData, checkpoint: Path, *, threads: int | None = None
) -> Trained:
    """Load what a finished trial trained on this data.

    checkpoint: the folder that it wrote. threads: that it had; the frozen blocks of an int8 model
    are calibrated again, and sums should be rounded as they were. Raises UserError where the
    checkpoint is damaged, or of a trial that is not finished.
    """
    state = _read(checkpoint / CHECKPOINT_FILE)
    if state.get("recipe") != recipe.to_dict():
        raise UserError(f"{checkpoint}: holds another recipe than its trial's")
    history = [EpochMetrics(**metrics) for metrics in state["history"]]
    if len(history) < recipe.epochs:
        raise UserError(f"{checkpoint}: of a trial that was not finished")
    use_threads(threads)
    # The recipe's weights file may be gone; the checkpoint has all of its own.
    model = build_model(recipe.replace(weights="none"), num_classes=len(data.classes))
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model.load_state_dict(state["model"])
    freeze(model, recipe.unfrozen)
    if recipe.qat:
        phase = Int8Phase(model, recipe, data, torch.device("cpu"), state["int8"])
        model, made = phase.finished_model(), bytes(state["int8"]["onnx"].numpy())
        return Trained(recipe=recipe, model=model, accuracy=history[-1].accuracy, onnx=made)
    return Trained(recipe=recipe, model=model.eval(), accuracy=history[-1].accuracy)


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{checkpoint}: damaged: {reason}") from None
    if not isinstance(state, dict):
        raise UserError(f"{checkpoint}: is no checkpoint of a trial")
    return state
