"""Images that people look at: samples of each class, and a model's surest mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.results.class_accuracy import SplitPredictions

Pixels = npt.NDArray[np.uint8]
MOST_SAMPLES = 600
"""Of all classes together, so that a page stays small."""
_MOST_OF_A_CLASS = 8
MOST_MISTAKES = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSamples:
    """Some images of one class."""

    name: str
    num_images: int
    """Of the class, in all splits."""
    images: Pixels
    """(samples, side, side, 3) in RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Some images of each class, in the order of the classes."""

    classes: tuple[ClassSamples, ...]
    num_left_out: int = 0
    """Classes that are not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A validation image that the chosen model is sure and wrong about."""

    image: Pixels
    """(side, side, 3) in RGB."""
    label: str
    predicted: str
    confidence: float
    """The probability that the model gives its answer, 0 to 1."""
    source: str
    """Where the image was prepared from, such as cat/1.jpg."""


def rows_to_show(
    labels: npt.NDArray[np.integer], num_classes: int
) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """(class, rows) of the images to show: as many of each class as fit, from all over its rows.

    labels: (images,) indices into the classes. Neighbouring rows are often one scene. Classes
    without images are left out, and those that no longer fit into MOST_SAMPLES.
    """
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    groups = [rows for rows in np.split(order, ends[:-1]) if len(rows)]
    each = int(np.clip(MOST_SAMPLES // max(1, len(groups)), 1, _MOST_OF_A_CLASS))
    return [(int(labels[rows[0]]), _spread(rows, each)) for rows in groups[:MOST_SAMPLES]]


def _spread(rows: npt.NDArray[np.intp], most: int) -> npt.NDArray[np.intp]:
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]


def surest_mistakes(predictions: SplitPredictions, most: int = MOST_MISTAKES) -> Sequence[int]:
    """Positions in the split of the wrong predictions, the surest first."""
    assert predictions.confidence is not None
    wrong = np.flatnonzero(predictions.labels != predictions.predicted)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:most].tolist()
