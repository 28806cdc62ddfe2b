"""Splits images: a model learns from some, is chosen by others, and is judged by the rest."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from spaces.errors import UserError

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
# Try this many shuffles if most images of a class are copies of other classes' images.
ATTEMPTS = 20


def split_rows(
    labels: npt.NDArray[np.int64],
    digests: npt.NDArray[np.uint8],
    *,
    classes: Sequence[str],
    validation: float,
    test: float,
    seed: int,
) -> npt.NDArray[np.uint8]:
    """Put every row into a split: an index into SPLITS.

    labels: (rows,) indices into classes. digests: (rows, bytes); rows with equal digests share a
    split, whatever their class. validation, test: fractions of each class, met as nearly as whole
    images allow. Every split gets at least one image of every class. The result depends on the
    contents and the seed, not on the order of the rows.
    Raises UserError if the fractions leave nothing to a split, or if a class has fewer than 3
    different images.
    """
    check_fractions(validation, test)
    _, group_of_row = np.unique(digests, axis=0, return_inverse=True)
    members = _count_members(group_of_row.reshape(-1), labels)
    groups_of_class = [0] * len(classes)
    for group in members:
        for label in group:
            groups_of_class[label] += 1
    check_enough(groups_of_class, classes)
    targets = [
        _whole_parts(count, validation, test)
        for count in np.bincount(labels, minlength=len(classes)).tolist()
    ]
    rng = np.random.default_rng(seed)
    missing: list[int] = []
    for _ in range(ATTEMPTS):
        split_of_group, missing = _assign(members, targets, rng)
        if not missing:
            return np.array(split_of_group, dtype=np.uint8)[group_of_row.reshape(-1)]
    names = ", ".join(classes[label] for label in missing)
    raise UserError(f"{names}: too few images to split that are not in another class too")


def check_fractions(validation: float, test: float) -> None:
    """Raise UserError unless all three splits get a part."""
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise UserError(
            f"validation {validation:g} and test {test:g}: both must be above 0,"
            " and their sum below 1"
        )


def check_enough(counts: Sequence[int], classes: Sequence[str]) -> None:
    """Raise UserError with a line for each class with too few different images to split."""
    lines = [
        f"{name}: {count} different image{'s' * (count != 1)}; a class needs at least"
        f" {len(SPLITS)}, one for each split; add images or remove its folder"
        for name, count in zip(classes, counts, strict=True)
        if count < len(SPLITS)
    ]
    if lines:
        raise UserError("\n".join(lines))


def _count_members(
    group_of_row: npt.NDArray[np.intp], labels: npt.NDArray[np.int64]
) -> list[dict[int, int]]:
    """Return {label: number of rows} for each group of equal images."""
    members: list[dict[int, int]] = [{} for _ in range(int(group_of_row.max(initial=-1)) + 1)]
    for group, label in zip(group_of_row.tolist(), labels.tolist(), strict=True):
        members[group][label] = members[group].get(label, 0) + 1
    return members


def _whole_parts(count: int, validation: float, test: float) -> list[int]:
    """Divide count by largest remainders into (train, validation, test), each at least 1."""
    exact = np.array([1 - validation - test, validation, test]) * count
    parts = np.floor(exact + 1e-9).astype(int)
    for split in np.argsort(parts - exact, kind="stable")[: count - parts.sum()]:
        parts[split] += 1
    while parts.min() < 1:
        parts[parts.argmax()] -= 1
        parts[parts.argmin()] += 1
    return parts.tolist()


def _assign(
    members: list[dict[int, int]], targets: list[list[int]], rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Give each group, largest first, the split that brings its classes nearest to their targets.

    If a class has only as many groups left as empty splits, it accepts only empty splits. A group
    of several classes may not be able to please all of them, so the classes that miss a split are
    returned too.
    """
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
            for split in range(len(SPLITS))
            if all(
                have[label][split] == 0 or left[label] > have[label].count(0) for label in labels
            )
        ]
        split = min(
            open_splits or range(len(SPLITS)),
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
    return split_of_group, [label for label, counts in enumerate(have) if 0 in counts]
