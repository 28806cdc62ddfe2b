"""Splits images: a model learns from some, is chosen by others, and is judged by the rest."""

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from spaces.errors import UserError
from spaces.yaml_files import shorten

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
# Try this many shuffles if most images of a class are copies of other classes' images.
ATTEMPTS = 20


def split_rows(
    labels: npt.NDArray[np.int64],
    together: npt.NDArray[np.int64],
    *,
    classes: Sequence[str],
    validation: float,
    test: float,
    seed: int,
    given: npt.NDArray[np.int8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Put every row into a split: an index into SPLITS.

    labels: (rows,) indices into classes. together: (rows,), from `rows_together`; rows with equal
    numbers share a split. validation, test: fractions of each class, met as nearly as what belongs
    together allows. given: (rows,) splits that rows have already; those of -1 go to train, and to
    the splits that no row was given. Each of these gets at least one row of every class. The result
    depends on the rows and the seed, not on their order.
    Raises UserError if the fractions leave nothing to a split, or if a class has too few different
    images.
    """
    check_fractions(validation, test)
    splits = np.full(len(labels), -1, dtype=np.int8) if given is None else given.copy()
    free = np.flatnonzero(splits < 0)
    if not len(free):
        return splits.astype(np.uint8)
    wanted = fractions_of(validation, test, taken=set(splits[splits >= 0].tolist()))
    _, group_of_row = np.unique(together[free], return_inverse=True)
    members = _count_members(group_of_row.reshape(-1), labels[free])
    groups_of_class = [0] * len(classes)
    for group in members:
        for label in group:
            groups_of_class[label] += 1
    present = [label for label, count in enumerate(groups_of_class) if count]
    if given is None:
        present = list(range(len(classes)))
    check_enough(
        [groups_of_class[label] for label in present],
        [classes[label] for label in present],
        num_splits=sum(fraction > 0 for fraction in wanted),
    )
    counts = np.bincount(labels[free], minlength=len(classes)).tolist()
    targets = [_whole_parts(count, wanted) for count in counts]
    rng = np.random.default_rng(seed)
    missing: list[int] = []
    for _ in range(ATTEMPTS):
        split_of_group, missing = _assign(members, targets, wanted, rng)
        if not missing:
            splits[free] = np.array(split_of_group, dtype=np.int8)[group_of_row.reshape(-1)]
            return splits.astype(np.uint8)
    names = ", ".join(classes[label] for label in missing)
    raise UserError(f"{names}: too few images to split that do not belong to others too")


def rows_together(
    digests: npt.NDArray[np.uint8],
    *keys: npt.NDArray[np.int64],
    pairs: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int64]:
    """(rows,) numbers: rows have the same one if they belong together, however indirectly.

    digests: (rows, bytes); rows with equal ones belong together. keys: each (rows,); so do rows
    with equal keys, except those of -1. pairs: (pairs, 2), more rows that belong together.
    Numbers follow from digests, so that they do not depend on the order of the rows.
    """
    rows = len(digests)
    _, content = np.unique(digests, axis=0, return_inverse=True)
    content = content.reshape(-1)
    starts, ends = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    nodes = rows
    for key in (content, *keys):  # a node for each value of a key
        _, value = np.unique(key, return_inverse=True)
        known = np.flatnonzero(key >= 0)
        starts.append(known)
        ends.append(nodes + value.reshape(-1)[known])
        nodes += int(value.max(initial=-1)) + 1
    if pairs is not None:
        starts.append(pairs[:, 0])
        ends.append(pairs[:, 1])
    edges = np.concatenate(starts), np.concatenate(ends)
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(nodes, nodes))
    group = connected_components(graph, directed=False)[1][:rows]
    first = np.full(group.max(initial=-1) + 1, rows, dtype=np.int64)
    np.minimum.at(first, group, content)
    return first[group]


def fractions_of(validation: float, test: float, *, taken: Collection[int] = ()) -> list[float]:
    """The fraction of each split among the rows that are to be split; 0 for those that are taken.

    taken: indices into SPLITS. Rows may always go to train.
    """
    held_out = [
        0.0 if split in taken else fraction for split, fraction in ((1, validation), (2, test))
    ]
    return [1 - sum(held_out), *held_out]


def check_fractions(validation: float, test: float) -> None:
    """Raise UserError unless all three splits get a part."""
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise UserError(
            f"validation {validation:g} and test {test:g}: both must be above 0,"
            " and their sum below 1"
        )


def check_enough(
    counts: Sequence[int], classes: Sequence[str], *, num_splits: int = len(SPLITS)
) -> None:
    """Raise UserError with one line that names the classes with too few different images."""
    few = [
        f"{name} ({count})"
        for name, count in zip(classes, counts, strict=True)
        if count < num_splits
    ]
    if few:
        raise UserError(
            f"{len(few)} of {len(classes)} classes have fewer than {num_splits} different images,"
            f" one for each split: {shorten(', '.join(few))}; add images, or leave these classes"
            f" out with --min-images {num_splits}"
        )


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
    for split in np.flatnonzero(np.array(fractions) > 0):
        if not parts[split] and parts.max() > 1:
            parts[parts.argmax()] -= 1
            parts[split] += 1
    return parts.tolist()


def _assign(
    members: list[dict[int, int]],
    targets: list[list[int]],
    fractions: Sequence[float],
    rng: np.random.Generator,
) -> tuple[list[int], list[int]]:
    """Give each group, largest first, the split that brings its classes nearest to their targets.

    If a class has only as many groups left as empty splits, it accepts only empty splits. A group
    of several classes may not be able to please all of them, so the classes that miss a split are
    returned too.
    """
    filled = [split for split, fraction in enumerate(fractions) if fraction > 0]
    have = [[0] * len(SPLITS) for _ in targets]
    left = [0] * len(targets)
    for labels in members:
        for label in labels:
            left[label] += 1
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
    seen = {label for labels in members for label in labels}
    return split_of_group, [
        label for label in sorted(seen) if any(have[label][split] == 0 for split in filled)
    ]
