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
    confidence: npt.NDArray[np.floating] | None = None
    """(images,), the probability that the model gives that class, 0 to 1; None: not known."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionMatrix:
    """How often each class was taken for each."""

    classes: tuple[str, ...]
    images: npt.NDArray[np.intp]
    """(classes, classes): images of the row's class that were taken for the column's."""
    shares: npt.NDArray[np.float64]
    """(classes, classes): of all images of the row's class, 0 to 1."""


def confusion_matrix(predictions: SplitPredictions, *, most: int) -> ConfusionMatrix:
    """Count predictions by true and predicted class, in the order of the classes.

    Of more than `most` classes, only those that have most mistakes, as a class or as an answer.
    """
    count = len(predictions.classes)
    images = np.zeros((count, count), dtype=np.intp)
    np.add.at(images, (predictions.labels, predictions.predicted), 1)
    totals = images.sum(axis=1, keepdims=True)
    shares = images / np.where(totals > 0, totals, 1)
    mistakes = images.sum(axis=0) + images.sum(axis=1) - 2 * images.diagonal()
    kept = np.sort(np.argsort(-mistakes, kind="stable")[:most])
    return ConfusionMatrix(
        classes=tuple(predictions.classes[index] for index in kept),
        images=images[np.ix_(kept, kept)],
        shares=shares[np.ix_(kept, kept)],
    )
