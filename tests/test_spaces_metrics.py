"""Metrics against scikit-learn, and what guessing gets against models that guess."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
)

from spaces.columns import METRICS
from spaces.metrics import best_guess, class_metrics, metric_of, naming_the_largest

CLASSES = ("ant", "bee", "cat, the", "recall:dog", "eel")


def predictions(seed: int, *, num_classes: int = 5, images: int = 60) -> tuple[np.ndarray, ...]:
    """Labels, some classes rare or absent, and answers that are right in six of ten."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(num_classes, 0.6))
    labels = rng.choice(num_classes, images, p=shares)
    return labels, np.where(rng.random(images) < 0.6, labels, rng.choice(num_classes, images))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("seed", range(20))
def test_metrics_are_those_of_scikit_learn(seed: int):
    labels, predicted = predictions(seed)
    found = class_metrics(labels, predicted, num_classes=5)
    there = np.unique(labels)
    counted = confusion_matrix(labels, predicted, labels=range(5))[there]
    recalls = counted[np.arange(len(there)), there] / counted.sum(axis=1)
    assert found == pytest.approx(
        {
            "accuracy": accuracy_score(labels, predicted),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted),
            "macro_f1": f1_score(labels, predicted, average="macro"),
            "worst_class_recall": recalls.min(),
        }
    )
    for index, name in enumerate(CLASSES):
        recall = metric_of(f"recall:{name}", labels, predicted, CLASSES)
        expected = dict(zip(there.tolist(), recalls.tolist(), strict=True)).get(index)
        assert recall == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("seed", range(5))
def test_an_image_that_counts_twice_is_as_two_images(seed: int):
    labels, predicted = predictions(seed)
    times = np.random.default_rng(seed).integers(0, 4, len(labels))
    twice = [np.repeat(one, times) for one in (labels, predicted)]
    found = class_metrics(labels, predicted, num_classes=5, times=times)
    assert found == pytest.approx(class_metrics(*twice, num_classes=5))


COUNTS = [[95, 5], [10, 10, 10], [50, 3, 3, 0, 1], [40, 30, 20, 10, 5, 5, 1]]


@pytest.mark.parametrize("counts", COUNTS)
def test_naming_the_largest_class_gets_what_a_model_gets_that_does(counts: list[int]):
    labels = np.repeat(np.arange(len(counts)), counts)
    predicted = np.full(len(labels), int(np.argmax(counts)))
    names = [f"class {index}" for index in range(len(counts))]
    found = class_metrics(labels, predicted, num_classes=len(counts))
    for metric, value in found.items():
        assert naming_the_largest(metric, counts) == pytest.approx(value)
    for name in names[:2]:
        recall = metric_of(f"recall:{name}", labels, predicted, names)
        assert naming_the_largest(f"recall:{name}", counts, largest_class=names[0]) == recall


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("metric", [*METRICS])
def test_no_way_to_guess_is_better_than_the_best_guess(metric: str, counts: list[int]):
    """Ways to guess: naming each class with a probability, whatever the image."""
    shares = np.array([count for count in counts if count]) / sum(counts)
    rng, number = np.random.default_rng(0), len(shares)
    ways = [*rng.dirichlet(np.ones(number), 200), np.full(number, 1 / number), shares]
    ways += [row + 1e-12 for row in np.eye(number)]
    found = []
    for way in ways:
        if metric == "accuracy":
            found.append((shares * way).sum())
        elif metric == "top5_accuracy":  # the order in which five are named
            found.append(np.sort(shares)[::-1][:5].sum())
        elif metric == "macro_f1":  # of many images
            found.append((2 * shares * way / (shares + way)).mean())
        else:  # a class's recall is the probability of its name
            found.append(way.mean() if metric == "balanced_accuracy" else way.min())
    best = best_guess(metric, counts)
    assert max(found) == pytest.approx(best, abs=1e-9)


def test_of_few_classes_five_answers_are_always_enough():
    assert best_guess("top5_accuracy", [3, 3, 1]) == 1
    assert best_guess("top5_accuracy", [10] * 10) == 0.5
