"""The metrics of predictions, and what a model gets that looks at no image.

They follow scikit-learn: balanced_accuracy_score, f1_score(average="macro") and
top_k_accuracy_score(k=5). A class without images in the split has no recall, and counts in no mean
of recalls.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spaces.columns import ACCURACY, RECALL, is_recall

TOP = 5
"""top5_accuracy counts an image if its class is among this many answers."""
TOP_ACCURACY = "top5_accuracy"
Indices = NDArray[np.integer]


def class_metrics(
    labels: Indices, predicted: Indices, *, num_classes: int, times: Indices | None = None
) -> dict[str, float]:
    """accuracy, balanced_accuracy, macro_f1 and worst_class_recall of predictions.

    labels, predicted: (images,) true and predicted classes, at least one image. times: (images,)
    how often each image counts; None: once.
    """
    times = np.ones(len(labels), dtype=np.int64) if times is None else times
    images = np.bincount(labels, times, num_classes)
    answers = np.bincount(predicted, times, num_classes)
    right = np.bincount(labels, times * (labels == predicted), num_classes)
    recalls = right[images > 0] / images[images > 0]
    named = images + answers > 0
    f1 = 2 * right[named] / (images + answers)[named]
    return {
        ACCURACY: float(right.sum() / images.sum()),
        "balanced_accuracy": float(recalls.mean()),
        "macro_f1": float(f1.mean()),
        "worst_class_recall": float(recalls.min()),
    }


def class_recall(labels: Indices, predicted: Indices, index: int) -> float | None:
    """The share of a class's images that were given that class; None if it has no images.

    labels, predicted: (images,) true and predicted classes. index: the class.
    """
    own = predicted[labels == index]
    return float((own == index).mean()) if len(own) else None


def metric_of(
    metric: str, labels: Indices, predicted: Indices, classes: Sequence[str]
) -> float | None:
    """A metric of predictions by its column; None where the best answers alone do not say it.

    labels, predicted: (images,) indices into classes, at least one image.
    """
    if is_recall(metric):
        name = metric.removeprefix(RECALL)
        return class_recall(labels, predicted, classes.index(name)) if name in classes else None
    return class_metrics(labels, predicted, num_classes=len(classes)).get(metric)


def best_guess(metric: str, class_counts: Sequence[int]) -> float:
    """The best that a model gets in a metric, in the mean, that looks at no image; 0 to 1.

    class_counts: images of each class in the split. Always naming the largest class has the best
    accuracy. No way to guess has a better balanced accuracy than 1 in as many as there are classes:
    nor a better macro F1 (drawing classes as often as they occur), nor a better recall of the worst
    class (drawing each as often). Of one class, the recall is that of drawing each as often: who
    always names it has 1, and no use for images.
    """
    counts = _counts(class_counts)
    if metric == ACCURACY:
        return float(counts[0] / counts.sum())
    if metric == TOP_ACCURACY:
        return float(counts[:TOP].sum() / counts.sum())
    return 1 / len(counts)


def naming_the_largest(
    metric: str, class_counts: Sequence[int], *, largest_class: str | None = None
) -> float | None:
    """What always naming the largest class gets in a metric, 0 to 1.

    The best five for top5_accuracy. largest_class: its name; without it, the recall of a class is
    not known: None.
    """
    counts = _counts(class_counts)
    share = float(counts[0] / counts.sum())
    if is_recall(metric):
        return None if largest_class is None else float(metric == RECALL + largest_class)
    if metric == "macro_f1":
        return 2 * share / (1 + share) / len(counts)
    if metric == "worst_class_recall":
        return float(len(counts) == 1)
    return best_guess(metric, class_counts)


def _counts(class_counts: Sequence[int]) -> NDArray[np.int64]:
    """Images of the classes that have any, the largest first."""
    counts = np.sort(np.asarray(class_counts, dtype=np.int64))[::-1]
    return counts[counts > 0]
