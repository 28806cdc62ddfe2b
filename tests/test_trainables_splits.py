import itertools

import numpy as np
import pytest

from spaces.errors import UserError
from trainables.data.splits import SPLITS, split_rows

TRAIN, VALIDATION, TEST = range(3)


def digests_of(contents) -> np.ndarray:
    """Return one 4-byte digest for each number."""
    return np.asarray(contents, dtype=">u4").view(np.uint8).reshape(-1, 4)


def split(labels, contents=None, *, validation=0.15, test=0.15, seed=0) -> np.ndarray:
    labels = np.asarray(labels, dtype=np.int64)
    contents = np.arange(len(labels)) if contents is None else contents
    names = [f"class-{label}" for label in range(int(labels.max()) + 1)]
    return split_rows(
        labels, digests_of(contents), classes=names, validation=validation, test=test, seed=seed
    )


def counts_in(splits, labels) -> np.ndarray:
    """Return (classes, splits) numbers of rows."""
    table = np.zeros((max(labels) + 1, len(SPLITS)), dtype=int)
    np.add.at(table, (labels, splits), 1)
    return table


@pytest.mark.parametrize(
    ("count", "expected"),
    [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (7, 2, 1)), (20, (14, 3, 3)), (100, (70, 15, 15))],
)
def test_fractions_are_met_as_nearly_as_whole_images_allow(count, expected):
    labels = [0] * count + [1] * 40
    np.testing.assert_array_equal(counts_in(split(labels), labels)[0], expected)


@pytest.mark.parametrize(("validation", "test"), [(0.01, 0.01), (0.9, 0.05), (0.05, 0.9)])
def test_every_class_has_an_image_in_every_split(validation, test):
    labels = np.repeat(np.arange(30), np.arange(3, 33))
    splits = split(labels, validation=validation, test=test)
    assert counts_in(splits, labels).min() >= 1


@pytest.mark.parametrize("seed", range(20))
def test_images_with_equal_content_share_a_split(seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(6), 40)
    contents = rng.integers(0, 150, len(labels))  # many copies, in and across classes
    splits = split(labels, contents, seed=seed)
    for content in np.unique(contents):
        assert len(set(splits[contents == content])) == 1
    table = counts_in(splits, labels)
    assert table.min() >= 1
    np.testing.assert_allclose(table, [[28, 6, 6]] * 6, atol=3)


def test_one_image_copied_many_times_leaves_the_others_to_the_other_splits():
    labels = [0] * 102 + [1] * 10
    contents = [7] * 100 + [8, 9] + list(range(20, 30))
    splits = split(labels, contents)
    assert set(splits[:100]) == {TRAIN}
    assert {splits[100], splits[101]} == {VALIDATION, TEST}


def test_classes_of_nothing_but_shared_images_are_split_where_that_is_possible():
    labels, contents = [0, 0, 0, 1, 1, 1], [1, 2, 3, 1, 2, 3]
    splits = split(labels, contents)
    np.testing.assert_array_equal(counts_in(splits, labels), [[1, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(splits[:3], splits[3:])


def test_classes_that_no_split_can_satisfy_are_named():
    # Every three of four images make a class: two of the four must share a split.
    triples = list(itertools.combinations(range(4), 3))
    labels = np.repeat(np.arange(4), 3)
    with pytest.raises(UserError, match="too few images to split that are not in"):
        split(labels, np.ravel(triples))


def test_the_split_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(5), 20)
    contents = rng.integers(0, 90, 100)
    order = rng.permutation(100)
    # Rows that are equal in label and content may take either place, and share a split.
    np.testing.assert_array_equal(
        split(labels, contents)[order], split(labels[order], contents[order])
    )


def test_the_seed_decides_who_is_held_out():
    labels = [0] * 50 + [1] * 50
    np.testing.assert_array_equal(split(labels, seed=1), split(labels, seed=1))
    assert (split(labels, seed=1) != split(labels, seed=2)).any()


def test_every_class_too_small_to_split_has_its_line():
    labels = [0, 0, 1, 1, 1, 1, 2, 2, 2]
    contents = [1, 2, 3, 4, 5, 6, 7, 7, 7]
    with pytest.raises(UserError) as caught:
        split(labels, contents)
    first, second = str(caught.value).splitlines()
    assert first.startswith("class-0: 2 different images; a class needs at least 3")
    assert second.startswith("class-2: 1 different image;")


@pytest.mark.parametrize(
    ("validation", "test"), [(0, 0.1), (0.1, 0), (0.5, 0.5), (-0.1, 0.2), (float("nan"), 0.1)]
)
def test_fractions_that_leave_a_split_empty_are_refused(validation, test):
    with pytest.raises(UserError, match="both must be above 0"):
        split([0] * 9 + [1] * 9, validation=validation, test=test)
