from collections import Counter

import numpy as np
import pytest

from analysis.results.class_accuracy import (
    SplitPredictions,
    class_accuracies,
    confusion_matrix,
    confusions,
)

CLASSES = ("ape", "bear", "cat", "dog")


@pytest.fixture
def predictions() -> SplitPredictions:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)  # no dog among them
    predicted = np.where(rng.random(200) < 0.7, labels, rng.integers(4, size=200))
    return SplitPredictions(trial=7, classes=CLASSES, labels=labels, predicted=predicted)


def test_classes_have_their_share_of_right_answers_the_worst_first(predictions: SplitPredictions):
    table = class_accuracies(predictions)
    for row in table.to_dict("records"):
        mine = predictions.labels == CLASSES.index(row["class"])
        assert row["images"] == mine.sum()
        assert row["accuracy"] == (predictions.predicted[mine] == predictions.labels[mine]).mean()
    assert set(table["class"]) == {"ape", "bear", "cat"}
    assert table["accuracy"].is_monotonic_increasing
    assert np.average(table["accuracy"], weights=table["images"]) == pytest.approx(
        predictions.accuracy
    )


def test_confusions_are_the_wrong_answers_counted(predictions: SplitPredictions):
    table = confusions(predictions)
    wrong = Counter(
        (CLASSES[true], CLASSES[said])
        for true, said in zip(predictions.labels, predictions.predicted, strict=True)
        if true != said
    )
    counted = {(row["class"], row["taken_for"]): row["images"] for row in table.to_dict("records")}
    assert counted == wrong
    assert table["images"].is_monotonic_decreasing
    first = table.iloc[0]
    of_class = (predictions.labels == CLASSES.index(first["class"])).sum()
    assert first["share"] == first["images"] / of_class


def test_where_all_is_right_nothing_is_confused():
    labels = np.array([0, 1, 2])
    right = SplitPredictions(trial=0, classes=CLASSES, labels=labels, predicted=labels)
    assert confusions(right).empty
    assert right.accuracy == 1


def test_a_confusion_matrix_counts_true_by_predicted():
    predictions = SplitPredictions(
        trial=0,
        classes=("a", "b", "c", "never seen"),
        labels=np.array([0, 0, 0, 0, 1, 2, 2]),
        predicted=np.array([0, 0, 0, 2, 1, 0, 2]),
    )
    matrix = confusion_matrix(predictions, most=10)
    assert matrix.classes == predictions.classes
    assert matrix.images.tolist() == [[3, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert matrix.shares[0].tolist() == [0.75, 0, 0.25, 0]
    assert matrix.shares[3].tolist() == [0, 0, 0, 0]
    worst = confusion_matrix(predictions, most=2)
    assert worst.classes == ("a", "c")
    assert worst.images.tolist() == [[3, 1], [1, 1]]
