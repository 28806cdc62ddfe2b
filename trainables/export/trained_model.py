"""Loads a trial's model from its checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spaces.errors import UserError
from spaces.files import read_file
from spaces.recipe import Recipe
from trainables.data.dataset import ImageData
from trainables.data.image_table import UInt8Array
from trainables.inputs.augmentation import normalize, to_batch
from trainables.learning.checkpoint import CHECKPOINT_FILE, decode_checkpoint
from trainables.learning.precision_stages import Int8Stage
from trainables.models.blocks import freeze
from trainables.models.building import build_model
from trainables.models.families import normalization_of
from trainables.models.family import Normalization
from trainables.training import EpochMetrics, use_threads

_CPU = torch.device("cpu")

Logits = Callable[[UInt8Array], NDArray[np.float32]]
"""From uint8 RGB images (N, input_size, input_size, 3) to outputs (N, classes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The trained model of a trial."""

    recipe: Recipe
    accuracy: float
    """After its last epoch, on the validation split; a fraction of 1."""
    logits: Logits
    """Runs the model as its accuracy was measured: int8 in ONNX Runtime, float in torch."""
    torch_model: Callable[[], nn.Module]
    """Makes the torch model, in evaluation, on the CPU, from normalised images to logits. The
    frozen blocks of an int8 model are calibrated again, which takes a while."""
    onnx: bytes | None = None
    """With qat: the content of the ONNX file whose accuracy this is."""


def load_trained(
    recipe: Recipe, data: ImageData, checkpoint: Path, *, threads: int | None = None
) -> Trained:
    """Load the model that a finished trial trained on this data.

    checkpoint: the folder that it wrote. threads: as many as the trial had, so that sums are
    rounded the same way. Raises UserError if the checkpoint is damaged, or the trial not finished.
    """
    state = _read_finished(recipe, checkpoint)
    accuracy = EpochMetrics.from_dict(state["history"][-1]).accuracy
    use_threads(threads)
    model = _float_model(recipe, data, state)
    normalization = normalization_of(recipe)
    if not recipe.qat:
        model.eval()
        return Trained(
            recipe=recipe,
            accuracy=accuracy,
            logits=logits_of(model, normalization),
            torch_model=lambda: model,
        )
    # This imports ONNX Runtime. Float models should not wait for it.
    from trainables.inference.onnx_model import open_session, run_session

    made = bytes(state["int8"]["onnx"].numpy())
    session = open_session(made, threads=torch.get_num_threads())
    return Trained(
        recipe=recipe,
        accuracy=accuracy,
        logits=lambda pixels_NHWC: run_session(
            session, normalize(to_batch(pixels_NHWC, _CPU), normalization).contiguous().numpy()
        ),
        torch_model=lambda: Int8Stage(model, recipe, data, _CPU, state["int8"]).finished_model(),
        onnx=made,
    )


def logits_of(model: nn.Module, normalization: Normalization) -> Logits:
    """A model in evaluation, on the CPU, as a function from pixels to logits."""

    @torch.no_grad()
    def logits(pixels_NHWC: UInt8Array) -> NDArray[np.float32]:
        return model(normalize(to_batch(pixels_NHWC, _CPU), normalization)).numpy()

    return logits


def _float_model(recipe: Recipe, data: ImageData, state: dict[str, Any]) -> nn.Module:
    # The recipe's weights file may be gone, and the checkpoint has all weights.
    model = build_model(recipe.replace(weights="none"), num_classes=len(data.classes))
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model.load_state_dict(state["model"])
    freeze(model, recipe.unfrozen)
    return model


def _read_finished(recipe: Recipe, checkpoint: Path) -> dict[str, Any]:
    state = _read(checkpoint / CHECKPOINT_FILE)
    known = state.get("recipe")
    # An older version did not have all of a recipe's fields.
    if not isinstance(known, dict) or {**Recipe().to_dict(), **known} != recipe.to_dict():
        raise UserError(f"{checkpoint}: holds another recipe than its trial's")
    if len(state["history"]) < recipe.epochs:
        raise UserError(f"{checkpoint}: its trial was not finished")
    return state


def _read(file: Path) -> dict[str, Any]:
    content = read_file(file, what="checkpoint")
    try:
        return decode_checkpoint(content)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
