"""The latency of a recipe's model before it is trained. It does not depend on the weights."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from spaces.recipe import Recipe
from trainables.inference.latency import Latency, measure_latency
from trainables.inference.onnx_model import About
from trainables.models.building import build_model
from trainables.models.families import family_of, normalization_of
from trainables.models.model_export import export_versions, write_onnx

_CALIBRATION_IMAGES = 4


def measure_untrained_latency(recipe: Recipe, num_classes: int) -> Latency:
    """Export the recipe's model with random weights, in int8 if it has qat, and time it.

    Takes 5 to 20 seconds, most of them for the export. Keep a core free meanwhile.
    """
    model = build_model(recipe.replace(weights="none"), num_classes).eval()
    if recipe.qat:
        from trainables.learning.quantization import convert, prepare_qat

        generator = torch.Generator().manual_seed(0)
        size = recipe.input_size
        images = torch.randn(_CALIBRATION_IMAGES, 3, size, size, generator=generator)
        model = convert(prepare_qat(model, [images]))
    normalization = normalization_of(recipe)
    about = About(
        classes=tuple(str(label) for label in range(num_classes)),
        input_size=recipe.input_size,
        prepared_size=recipe.input_size,
        mean=normalization.mean,
        std=normalization.std,
        accuracy=0.0,
        recipe=recipe.to_dict(),
        versions=export_versions(*family_of(recipe.model).packages),
    )
    with TemporaryDirectory(prefix="flopwise-latency-") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, about, path)
        return measure_latency(path)
