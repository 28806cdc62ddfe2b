"""A trained model's predictions for the images of a split."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from spaces.metrics import TOP
from spaces.recipe import Recipe
from trainables.data.dataset import ImageData
from trainables.data.splits import SplitName
from trainables.export.trained_model import load_trained
from trainables.inference.onnx_model import in_batches


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitAnswers:
    """A model's answers for the images of a split, in the order of `data.rows(split)`."""

    predicted: NDArray[np.int64]
    """(images,) the most probable class."""
    confidence: NDArray[np.float64]
    """(images,) its probability, 0 to 1."""
    in_top5: NDArray[np.bool_]
    """(images,) whether the true class is among the five most probable ones."""


def predictions_on_split(
    recipe: Recipe,
    data: ImageData,
    checkpoint: Path,
    split: SplitName,
    *,
    threads: int | None = None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> SplitAnswers:
    """What a trained model predicts for each image of a split.

    checkpoint, threads: as in `trained_model.load_trained`. progress: called with the numbers of
    images done and of all. Raises UserError if the checkpoint is damaged or of another recipe.
    """
    logits = load_trained(recipe, data, checkpoint, threads=threads).logits
    rows, table = data.rows(split), data.at_size(recipe.input_size)
    predicted = np.empty(len(rows), dtype=np.int64)
    confidence, in_top5 = np.empty(len(rows)), np.empty(len(rows), dtype=bool)
    done = 0
    for batch in in_batches(rows):
        here = slice(done, done + len(batch))
        logits_NK = logits(table.take(batch)).astype(np.float64)
        predicted[here] = logits_NK.argmax(axis=1)
        # Of log-probabilities, as the baseline CNN has them, this is their own exponential.
        confidence[here] = np.exp(logits_NK.max(axis=1) - logsumexp(logits_NK, axis=1))
        best = np.argsort(-logits_NK, axis=1, kind="stable")[:, :TOP]
        in_top5[here] = (best == data.labels[batch][:, None]).any(axis=1)
        done += len(batch)
        progress(done, len(rows))
    return SplitAnswers(predicted=predicted, confidence=confidence, in_top5=in_top5)
