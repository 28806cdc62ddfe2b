import itertools

import numpy as np
import pytest

from spaces.errors import UserError
from trainables.data.splits import SPLITS, TooFewError, content_numbers, rows_together, split_rows

TRAIN, VALIDATION, TEST = range(3)


def digests_of(contents) -> np.ndarray:
    """Return one 4-byte digest for each number."""
    return np.asarray(contents, dtype=">u4").view(np.uint8).reshape(-1, 4)


def split(labels, contents=None, *, validation=0.15, test=0.15, seed=0) -> np.ndarray:
    labels = np.asarray(labels, dtype=np.int64)
    contents = np.arange(len(labels)) if contents is None else contents
    names = [f"class-{label}" for label in range(int(labels.max()) + 1)]
    return split_rows(
        labels,
        rows_together(content_numbers(digests_of(contents))),
        classes=names,
        validation=validation,
        test=test,
        seed=seed,
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
    with pytest.raises(UserError, match="too few images to split that do not belong to others"):
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


def test_classes_too_small_to_split_are_named_in_one_line_with_the_way_out():
    labels = [0, 0, 1, 1, 1, 1, 2, 2, 2]
    contents = [1, 2, 3, 4, 5, 6, 7, 7, 7]
    with pytest.raises(TooFewError, match=r"add images, or .* --min-images 3") as caught:
        split(labels, contents)
    assert str(caught.value).startswith(
        "2 of 3 classes have fewer than 3 different images or groups, one for each split:"
        " class-0 (2), class-2 (1);"
    )
    assert caught.value.labels == (0, 2)


def grouped(labels, groups, *, given=None, fill=SPLITS, seed=0, order=None) -> np.ndarray:
    """Splits of rows of different content. groups: names of numbers; -1: none."""
    labels, groups = np.asarray(labels, np.int64), np.asarray(groups, np.int64)
    contents = np.arange(len(labels))
    order = contents if order is None else order
    return split_rows(
        labels[order],
        rows_together(content_numbers(digests_of(contents[order])), groups[order]),
        classes=[str(label) for label in range(labels.max() + 1)],
        validation=0.15,
        test=0.15,
        seed=seed,
        given=None if given is None else np.asarray(given, np.int8)[order],
        fill=fill,
        whole=None if given is None else (),
    )


@pytest.mark.parametrize("seed", range(10))
def test_no_group_lies_in_two_splits_and_classes_keep_their_fractions(seed: int):
    rng = np.random.default_rng(seed)
    groups = rng.integers(-1, 60, 600)
    # An animal has one class; images of no group have any.
    labels = np.where(groups < 0, rng.integers(0, 4, 600), groups % 4)
    splits = grouped(labels, groups, seed=seed)
    for group in range(60):
        assert len(set(splits[groups == group])) <= 1
    table = counts_in(splits, labels)
    np.testing.assert_allclose(table / table.sum(axis=1, keepdims=True), [[0.7, 0.15, 0.15]] * 4,
                               atol=0.06)  # fmt: skip


def test_splits_by_group_do_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(1)
    groups, labels = rng.integers(-1, 30, 200), rng.integers(0, 3, 200)
    order = rng.permutation(200)
    np.testing.assert_array_equal(
        grouped(labels, groups)[order], grouped(labels, groups, order=order)
    )


def test_what_belongs_together_does_so_however_indirectly():
    contents = content_numbers(digests_of([1, 1, 2, 3, 4, 5]))
    group = np.array([-1, 7, 7, -1, -1, -1])
    together = rows_together(contents, group, pairs=np.array([[2, 3]]))
    assert len(set(together[:4].tolist())) == 1
    assert len(set(together.tolist())) == 3


def test_given_splits_stay_and_only_missing_ones_are_drawn_from_the_other_rows():
    labels = [0, 1] * 40
    given = [TEST] * 20 + [-1] * 60
    splits = grouped(labels, [-1] * 80, given=given, fill=("validation",))
    np.testing.assert_array_equal(splits[:20], TEST)
    np.testing.assert_array_equal(counts_in(splits, labels), [[26, 4, 10]] * 2)


def test_new_rows_bring_each_class_nearer_to_its_fractions_and_follow_their_group():
    labels = [0] * 40 + [1] * 40 + [0] * 60 + [1] * 10
    given = ([TRAIN] * 36 + [VALIDATION] * 2 + [TEST] * 2) * 2 + [-1] * 70
    groups = [-1] * 150
    groups[36] = groups[80] = 3  # an image of validation, and a new one
    splits = grouped(labels, groups, given=given)
    np.testing.assert_array_equal(splits[:80], given[:80])
    assert splits[80] == VALIDATION
    np.testing.assert_array_equal(counts_in(splits, labels)[0], [70, 15, 15])


def test_rows_that_belong_to_several_given_splits_go_to_train():
    given = [TRAIN, TEST, -1, *[TRAIN, VALIDATION, TEST] * 3]
    splits = grouped([0] * 12, [5, 5, 5, *[-1] * 9], given=given)
    assert splits[:3].tolist() == [TRAIN, TEST, TRAIN]


def test_a_class_that_has_splits_already_may_grow_by_a_single_image():
    given = [TEST, TEST, -1, *[TRAIN, VALIDATION, TEST] * 3]
    splits = grouped([0, 0, 0, *[1] * 9], [-1] * 12, given=given)
    assert splits[2] == TRAIN


@pytest.mark.parametrize(
    ("validation", "test"), [(0, 0.1), (0.1, 0), (0.5, 0.5), (-0.1, 0.2), (float("nan"), 0.1)]
)
def test_fractions_that_leave_a_split_empty_are_refused(validation, test):
    with pytest.raises(UserError, match="both must be above 0"):
        split([0] * 9 + [1] * 9, validation=validation, test=test)
