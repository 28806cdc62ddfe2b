"""A model's accuracy on each class, and the classes that it confuses."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

IndexArray = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The classes of a run's images."""

    classes: tuple[str, ...]
    labels: IndexArray
    """(images,), each the index of its class in classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPredictions:
    """One trial's model on the images of a split: true and predicted classes."""

    trial: int
    classes: tuple[str, ...]
    labels: IndexArray
    """(images,), each the index of its class in classes."""
    predicted: IndexArray
    """(images,), the index of the most probable class."""

    @property
    def accuracy(self) -> float:
        return float((self.labels == self.predicted).mean())


def class_accuracies(predictions: SplitPredictions) -> pd.DataFrame:
    """A row for each class with images: class, images, accuracy (0 to 1); the worst first."""
    images = np.bincount(predictions.labels, minlength=len(predictions.classes))
    right = np.bincount(
        predictions.labels[predictions.labels == predictions.predicted],
        minlength=len(predictions.classes),
    )
    there = np.flatnonzero(images)
    table = pd.DataFrame(
        {
            "class": [predictions.classes[index] for index in there],
            "images": images[there],
            "accuracy": right[there] / images[there],
        }
    )
    return table.sort_values(["accuracy", "class"], kind="stable", ignore_index=True)


def confusions(predictions: SplitPredictions) -> pd.DataFrame:
    """A row for each pair of classes that were confused; the most frequent first.

    Columns: class, taken_for, images (how many), share (of the class's images, 0 to 1).
    """
    wrong = predictions.labels != predictions.predicted
    table = pd.DataFrame(
        {"class": predictions.labels[wrong], "taken_for": predictions.predicted[wrong]}
    )
    counted = table.value_counts(sort=False).rename("images").reset_index()
    images = np.bincount(predictions.labels, minlength=len(predictions.classes))
    counted["share"] = counted["images"] / images[counted["class"].to_numpy(dtype=int)]
    for column in ("class", "taken_for"):
        counted[column] = [predictions.classes[index] for index in counted[column]]
    by = ["images", "share", "class", "taken_for"]
    return counted.sort_values(by, ascending=[False, False, True, True], ignore_index=True)
