"""Splits images: a model learns from some, is chosen by others, and is judged by the rest."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from spaces.errors import UserError

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
# Try this many shuffles if most images of a class are copies of other classes' images.
ATTEMPTS = 20


class TooFewError(UserError):
    """Classes have too little to split."""

    def __init__(self, message: str, labels: Sequence[int]) -> None:
        super().__init__(message)
        self.labels = tuple(labels)


def split_rows(
    labels: npt.NDArray[np.int64],
    together: npt.NDArray[np.int64],
    *,
    classes: Sequence[str],
    validation: float,
    test: float,
    seed: int,
    given: npt.NDArray[np.int8] | None = None,
    fill: Collection[SplitName] = SPLITS,
    whole: Collection[int] | None = None,
) -> npt.NDArray[np.uint8]:
    """Put every row into a split: an index into SPLITS.

    labels: (rows,) indices into classes. together: (rows,), from `rows_together`; rows with equal
    numbers share a split. validation, test: fractions of each class, met as nearly as what belongs
    together allows. given: (rows,) splits that rows have already and keep; -1 for the others, which
    go to train and to the splits of `fill`. whole: labels of classes that get at least one row in
    each of these; None: all. The result depends on the rows and the seed, not on their order.
    Raises UserError if the fractions leave nothing to a split, and TooFewError.
    """
    check_fractions(validation, test)
    splits = np.full(len(labels), -1, dtype=np.int8) if given is None else given.copy()
    fractions = [1 - validation - test, validation, test]
    filled = [split for split, name in enumerate(SPLITS) if name == "train" or name in fill]
    fractions = [fraction if split in filled else 0.0 for split, fraction in enumerate(fractions)]
    fractions[0] = 1 - fractions[1] - fractions[2]
    _, group_of_row = np.unique(together, return_inverse=True)
    group_of_row = group_of_row.reshape(-1)
    _follow_given(splits, group_of_row, filled)
    have = [[0] * len(SPLITS) for _ in classes]
    for label, split in zip(labels.tolist(), splits.tolist(), strict=True):
        if split in filled:
            have[label][split] += 1
    free = np.flatnonzero(splits < 0)
    _, group_of_free = np.unique(group_of_row[free], return_inverse=True)
    group_of_free = group_of_free.reshape(-1)
    members = _count_members(group_of_free, labels[free])
    groups_of_class = Counter(label for group in members for label in group)
    whole = range(len(classes)) if whole is None else whole
    check_enough(
        [groups_of_class[label] + sum(map(bool, have[label])) for label in whole],
        [classes[label] for label in whole],
        labels=list(whole),
        num_splits=len(filled),
    )
    sizes = np.bincount(labels[free], minlength=len(classes)) + np.sum(have, axis=1)
    targets = [_whole_parts(count, fractions) for count in sizes.tolist()]
    rng = np.random.default_rng(seed)
    missing: list[int] = []
    for _ in range(ATTEMPTS):
        split_of_group, after = _assign(members, targets, have, filled, rng)
        missing = [label for label in whole if any(after[label][split] == 0 for split in filled)]
        if not missing:
            splits[free] = np.array(split_of_group, dtype=np.int8)[group_of_free]
            return splits.astype(np.uint8)
    names = some_of([classes[label] for label in missing])
    raise TooFewError(f"{names}: too few images to split that do not belong to others too", missing)


def _follow_given(
    splits: npt.NDArray[np.int8], group_of_row: npt.NDArray[np.intp], filled: Sequence[int]
) -> None:
    """Give rows without a split that of the rows they belong to: train if these are in several."""
    count = np.zeros((int(group_of_row.max(initial=-1)) + 1, len(SPLITS)), dtype=np.int64)
    known = np.isin(splits, filled)
    np.add.at(count, (group_of_row[known], splits[known]), 1)
    # The first of the largest, and train before all.
    count[count[:, 0] > 0, 0] = len(splits) + 1
    follows = (splits < 0) & (count.sum(axis=1) > 0)[group_of_row]
    splits[follows] = count.argmax(axis=1)[group_of_row[follows]]


def content_numbers(digests: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(rows,) numbers, from 0, in the order of the digests: equal ones have the same number.

    digests: (rows, bytes).
    """
    return np.unique(digests, axis=0, return_inverse=True)[1].reshape(-1)


def rows_together(
    content: npt.NDArray[np.int64],
    *keys: npt.NDArray[np.int64],
    pairs: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int64]:
    """(rows,) numbers: rows have the same one if they belong together, however indirectly.

    content: (rows,), from `content_numbers`; rows with equal ones belong together. keys: each
    (rows,); so do rows with equal keys, except those of -1. pairs: (pairs, 2), more rows that
    belong together. Numbers follow from the content, so that they do not depend on the order of the
    rows.
    """
    nodes = rows = len(content)
    edges = [] if pairs is None else [pairs]
    for key in (content, *keys):  # a node for each value of a key
        _, value = np.unique(key, return_inverse=True)
        known = np.flatnonzero(key >= 0)
        edges.append(np.stack([known, nodes + value.reshape(-1)[known]], axis=1))
        nodes += int(value.max(initial=-1)) + 1
    group = connected(nodes, np.concatenate(edges))[:rows]
    first = np.full(group.max(initial=-1) + 1, rows, dtype=np.int64)
    np.minimum.at(first, group, content)
    return first[group]


def connected(num_nodes: int, edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(nodes,) numbers: nodes have the same one if edges lead from one to the other.

    edges: (edges, 2) nodes, from 0.
    """
    ones = np.ones(len(edges), dtype=np.int8)
    graph = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(num_nodes, num_nodes))
    return connected_components(graph, directed=False)[1]


def check_fractions(validation: float, test: float) -> None:
    """Raise UserError unless all three splits get a part."""
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise UserError(
            f"validation {validation:g} and test {test:g}: both must be above 0,"
            " and their sum below 1"
        )


def check_enough(
    counts: Sequence[int],
    classes: Sequence[str],
    *,
    labels: Sequence[int] | None = None,
    num_splits: int = len(SPLITS),
) -> None:
    """Raise TooFewError, with one line, if classes have fewer images to split than splits.

    counts: of each of these classes, images or groups that need not share a split. labels: what
    the error calls the classes; None: their positions.
    """
    numbers = range(len(classes)) if labels is None else labels
    few = [
        (label, f"{name} ({count})")
        for label, name, count in zip(numbers, classes, counts, strict=True)
        if count < num_splits
    ]
    if few:
        raise TooFewError(
            f"{len(few)} of {len(classes)} classes have fewer than {num_splits} different images"
            f" or groups, one for each split: {some_of([name for _, name in few])}; add images, or"
            f" leave these classes out with --min-images {num_splits}",
            [label for label, _ in few],
        )


def some_of(names: Sequence[str], most: int = 20) -> str:
    """Names for a line: at most so many."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _count_members(
    group_of_row: npt.NDArray[np.intp], labels: npt.NDArray[np.int64]
) -> list[dict[int, int]]:
    """Return {label: number of rows} for each group of equal images."""
    members: list[dict[int, int]] = [{} for _ in range(int(group_of_row.max(initial=-1)) + 1)]
    for group, label in zip(group_of_row.tolist(), labels.tolist(), strict=True):
        members[group][label] = members[group].get(label, 0) + 1
    return members


def _whole_parts(count: int, fractions: Sequence[float]) -> list[int]:
    """Divide count by largest remainders, with at least 1 for each fraction above 0 if it can."""
    exact = np.array(fractions) * count
    parts = np.floor(exact + 1e-9).astype(int)
    for split in np.argsort(parts - exact, kind="stable")[: count - parts.sum()]:
        parts[split] += 1
    for split in np.flatnonzero(exact > 0):
        if not parts[split] and parts.max() > 1:
            parts[parts.argmax()] -= 1
            parts[split] += 1
    return parts.tolist()


def _assign(
    members: list[dict[int, int]],
    targets: list[list[int]],
    before: list[list[int]],
    filled: Sequence[int],
    rng: np.random.Generator,
) -> tuple[list[int], list[list[int]]]:
    """Give each group, largest first, the split that brings its classes nearest to their targets.

    before: rows of each class in each split already. filled: the splits that groups may go to. If
    a class has only as many groups left as empty splits, it accepts only empty splits. A group of
    several classes may not be able to please all of them, so the rows of each class in each split
    are returned too.
    """
    have = [list(counts) for counts in before]
    left = Counter(label for labels in members for label in labels)
    order = rng.permutation(len(members)).tolist()
    order.sort(key=lambda group: (-len(members[group]), -sum(members[group].values())))
    split_of_group = [0] * len(members)
    for group in order:
        labels = members[group]
        open_splits = [
            split
            for split in filled
            if all(
                have[label][split] == 0
                or left[label] > sum(have[label][other] == 0 for other in filled)
                for label in labels
            )
        ]
        split = min(
            open_splits or filled,
            # The growth of the squared distance to the targets.
            key=lambda split: sum(
                count * (2 * (have[label][split] - targets[label][split]) + count)
                for label, count in labels.items()
            ),
        )
        split_of_group[group] = split
        for label, count in labels.items():
            have[label][split] += count
            left[label] -= 1
    return split_of_group, have
