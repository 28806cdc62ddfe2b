"""A trained model's predictions for the images of a split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spaces.recipe import Recipe
from trainables.data.dataset import ImageData
from trainables.data.splits import SplitName
from trainables.export.trained_model import load_trained
from trainables.inference.onnx_model import in_batches


def predictions_on_split(
    recipe: Recipe,
    data: ImageData,
    checkpoint: Path,
    split: SplitName,
    *,
    threads: int | None = None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> NDArray[np.int64]:
    """The class that a trained model predicts for each image, in the order of `data.rows(split)`.

    checkpoint, threads: as in `trained_model.load_trained`. progress: called with the numbers of
    images done and of all. Raises UserError if the checkpoint is damaged or of another recipe.
    """
    logits = load_trained(recipe, data, checkpoint, threads=threads).logits
    rows, table = data.rows(split), data.at_size(recipe.input_size)
    predictions = np.empty(len(rows), dtype=np.int64)
    done = 0
    for batch in in_batches(rows):
        predictions[done : done + len(batch)] = logits(table.take(batch)).argmax(axis=1)
        done += len(batch)
        progress(done, len(rows))
    return predictions
