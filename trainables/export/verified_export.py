"""Writes a trained model to a file, loads it again, and checks its accuracy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from spaces.errors import UserError
from spaces.files import whole_file
from trainables.data.dataset import ImageData
from trainables.export.pte_export import open_pte, require_executorch, write_pte
from trainables.export.trained_model import Logits, Trained, logits_of
from trainables.inference.onnx_model import About, in_batches, open_exported
from trainables.models.families import family_of, normalization_of
from trainables.models.model_export import (
    export_versions,
    read_pt2,
    write_made_onnx,
    write_onnx,
    write_pt2,
)

ModelForm = Literal["onnx", "pt2", "pte"]

_TOLERANCE = 0.002  # of the accuracy: 0.2 points
_WAY_OUT = (
    "; an int8 model rounds differently in torch and in ONNX Runtime, where its trial was measured;"
    " use --format onnx"
)


def export_verified(
    trained: Trained, data: ImageData, path: Path, form: ModelForm
) -> tuple[About, str]:
    """Write the model; returns what the file says about itself, and the result of the check.

    The file is loaded again and run on the whole validation split. Only then it gets its name. If
    its accuracy differs from the trial's by more than 0.2 points, nothing is left and UserError is
    raised. Also raises UserError if ExecuTorch is needed and not installed.
    """
    if form == "pte":
        require_executorch()
    recipe = trained.recipe
    normalization = normalization_of(recipe)
    about = About(
        classes=data.classes,
        input_size=recipe.input_size,
        prepared_size=data.size,
        fit=data.fit,
        bits=data.bits,
        mean=normalization.mean,
        std=normalization.std,
        accuracy=trained.accuracy,
        recipe=recipe.to_dict(),
        versions=export_versions(
            *family_of(recipe.model).packages, *(["executorch"] if form == "pte" else [])
        ),
    )
    with whole_file(path) as partial:
        found = _check(_write(trained, about, partial, form), trained, data)
        if abs(found.accuracy - trained.accuracy) > _TOLERANCE:
            way_out = _WAY_OUT if form == "pt2" and trained.onnx else ""
            raise UserError(
                f"{path}: not exported: the file gets {found.accuracy:.2%} of"
                f" {found.num_images:,} validation images right, but its trial got"
                f" {trained.accuracy:.2%}; the largest difference of an output is"
                f" {found.largest_difference:.3g}{way_out}"
            )
    return about, (
        f"Loaded again and run on the {found.num_images:,} images of the validation split: accuracy"
        f" {found.accuracy:.2%} (the trial's: {trained.accuracy:.2%}), the same prediction"
        f" on {found.num_same:,} images, largest difference of an output"
        f" {found.largest_difference:.3g}."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    num_images: int
    accuracy: float
    num_same: int
    """Images with the same prediction as the trial's model."""
    largest_difference: float


def _write(trained: Trained, about: About, path: Path, form: ModelForm) -> Logits:
    """Write the model, and load it again."""
    if form == "pt2":
        write_pt2(trained.torch_model(), about, path)
        return logits_of(read_pt2(path), normalization_of(trained.recipe))
    if form == "pte":
        write_pte(trained.torch_model(), about, path)
        try:
            return open_pte(path, normalization_of(trained.recipe))
        except UserError as error:  # XNNPACK checks some of its layers only here
            raise UserError(f"not exported: {error}") from None
    if trained.onnx is not None:
        write_made_onnx(trained.onnx, about, path)
    else:
        write_onnx(trained.torch_model(), about, path)
    return open_exported(path).logits


def _check(written: Logits, trained: Trained, data: ImageData) -> _Check:
    """Compare the written file with the trial's model on the validation split."""
    rows = data.rows("validation")
    table = data.at_size(trained.recipe.input_size)
    num_correct, num_same, largest = 0, 0, 0.0
    for batch in in_batches(rows):
        pixels_NHWC = table.take(batch)
        found_NK, wanted_NK = written(pixels_NHWC), trained.logits(pixels_NHWC)
        answers_N = found_NK.argmax(axis=1)
        num_correct += int((answers_N == data.labels[batch]).sum())
        num_same += int((answers_N == wanted_NK.argmax(axis=1)).sum())
        largest = max(largest, float(np.abs(found_NK - wanted_NK).max()))
    return _Check(
        num_images=len(rows),
        accuracy=num_correct / len(rows),
        num_same=num_same,
        largest_difference=largest,
    )
