"""Writes a trained model to a file, loads it again, and sees that it does what was promised."""

from pathlib import Path
from typing import Literal

import numpy as np

from spaces.errors import UserError
from trainables.augmentation import MEAN, STD
from trainables.exported import About, in_batches, open_exported
from trainables.images import ImageData
from trainables.model_files import (
    export_versions,
    read_pt2,
    write_made_onnx,
    write_onnx,
    write_pt2,
)
from trainables.pte_files import open_pte, require_executorch, write_pte
from trainables.trained import Logits, Trained, logits_of

ModelForm = Literal["onnx", "pt2", "pte"]

_TOLERANCE = 0.002  # of the accuracy: 0.2 points


def export_verified(
    trained: Trained, data: ImageData, path: Path, form: ModelForm
) -> tuple[About, str]:
    """Write the model; returns what the file says about itself, and what the check came to.

    The file that was written is loaded again and run on the whole validation split. Raises
    UserError, with the file removed, where its accuracy is not the trial's within 0.2 points; where
    ExecuTorch is wanted and not installed.
    """
    if form == "pte":
        require_executorch()
    about = About(
        classes=data.classes,
        input_size=trained.recipe.input_size,
        prepared_size=data.size,
        mean=MEAN,
        std=STD,
        accuracy=trained.accuracy,
        recipe=trained.recipe.to_dict(),
        versions=export_versions(*(["executorch"] if form == "pte" else [])),
    )
    expected = trained.logits
    if form == "pt2":
        model = trained.torch_model()
        expected = logits_of(model)
        write_pt2(model, about, path)
        written: Logits = logits_of(read_pt2(path))
    elif form == "pte":
        write_pte(trained.torch_model(), about, path)
        try:
            written = open_pte(path)
        except UserError as error:  # XNNPACK checks some of its layers only here
            path.unlink()
            raise UserError(f"not exported: {error}") from None
    else:
        if trained.onnx is not None:
            write_made_onnx(trained.onnx, about, path)
        else:
            write_onnx(trained.torch_model(), about, path)
        written = open_exported(path).logits
    rows = data.rows("validation")
    table = data.at_size(about.input_size)
    num_correct, before, largest, same = 0, 0, 0.0, 0
    for batch in in_batches(rows):
        pixels_NHWC = table.take(batch)
        found_NK, wanted_NK = written(pixels_NHWC), expected(pixels_NHWC)
        answers_N = found_NK.argmax(axis=1)
        num_correct += int((answers_N == data.labels[batch]).sum())
        before += int((wanted_NK.argmax(axis=1) == data.labels[batch]).sum())
        same += int((answers_N == wanted_NK.argmax(axis=1)).sum())
        largest = max(largest, float(np.abs(found_NK - wanted_NK).max()))
    accuracy = num_correct / len(rows)
    # An int8 model has the accuracy of its trial in ONNX Runtime; in torch it has another one.
    promised = before / len(rows) if form == "pt2" and trained.onnx else trained.accuracy
    if abs(accuracy - promised) > _TOLERANCE:
        path.unlink(missing_ok=True)
        raise UserError(
            f"{path}: not exported: loaded again, it gets {accuracy:.2%} of {len(rows):,}"
            f" validation images right, and its trial had {trained.accuracy:.2%}; the largest"
            f" difference of an output is {largest:.3g}"
        )
    return about, (
        f"Loaded again and run on the {len(rows):,} images of the validation split: accuracy"
        f" {accuracy:.2%} (the trial's: {trained.accuracy:.2%}), the same answer as before"
        f" on {same:,} images, largest difference of an output {largest:.3g}."
    )
