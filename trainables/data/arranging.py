"""Arranges the rows of prepared data: which classes stay, what belongs together, splits, order."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spaces.errors import UserError
from trainables.data.near_duplicates import clusters, near_pairs
from trainables.data.splits import (
    SPLITS,
    SplitName,
    TooFewError,
    content_numbers,
    rows_together,
    some_of,
    split_rows,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How rows are split."""

    validation: float = 0.15
    test: float = 0.15
    seed: int = 0
    fill: Collection[SplitName] = SPLITS
    """The splits, besides train, that rows without one may go to."""
    min_images: int = 0
    """Leave classes out that have fewer images that need not share a split."""
    classes_that_stay: int = 0
    """So many classes, the first ones, stay however few images they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsplitRows:
    """What decides where rows go. All arrays have a length of (rows,)."""

    labels: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint8]
    """(rows, bytes), of pixels."""
    groups: npt.NDArray[np.int64]
    """Indices into group_names; -1 for rows of no group."""
    group_names: Sequence[str]
    hashes: npt.NDArray[np.uint8]
    """(rows, HASH_BYTES); see `near_duplicates`."""
    hashed: npt.NDArray[np.bool_]
    """Whether a row has a hash."""
    given: npt.NDArray[np.int8]
    """Indices into SPLITS, of rows that keep their split; -1 for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Rows in their order: by class and content, so that equal images make equal data."""

    order: npt.NDArray[np.int64]
    """Numbers of the rows that stay, in order. The other arrays are in this order."""
    labels: npt.NDArray[np.int64]
    splits: npt.NDArray[np.uint8]
    near: npt.NDArray[np.int64]
    """Numbers of clusters of near-duplicates; -1 for none."""
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def arrange(rows: UnsplitRows, classes: Sequence[str], rule: SplitRule) -> Arrangement:
    """Split rows and order them.

    Copies and groups share a split. So do near-duplicates, except where a class could not be split
    otherwise; a note says so. Raises UserError if a class can't be split.
    """
    content = content_numbers(rows.digests)
    together = rows_together(content, rows.groups)
    staying, notes = _large_enough(rows.labels, together, classes, rule)
    new_label = np.cumsum(staying) - 1
    kept = np.flatnonzero(staying[rows.labels])
    labels, content = new_label[rows.labels[kept]], content[kept]
    groups, given = rows.groups[kept], rows.given[kept]
    names = tuple(name for name, stays in zip(classes, staying, strict=True) if stays)
    hashed = np.flatnonzero(rows.hashed[kept])
    pairs = hashed[near_pairs(rows.hashes[kept[hashed]])]
    splits, released = _split(labels, content, groups, pairs, given, names, rule)
    empty = [name for split, name in enumerate(SPLITS) if not (splits == split).any()]
    if empty:
        raise UserError(f"no image is left for {' and '.join(empty)}")
    near = _different(clusters(len(kept), pairs), content)
    notes += _notes_of_classes(labels, splits, names)
    notes += _notes_of_copies(labels, content, splits)
    notes += _notes_of_groups(groups, splits, rows.group_names)
    notes += _notes_of_near(near, splits, [names[label] for label in released])
    order = np.lexsort((splits, content, labels))
    return Arrangement(
        order=kept[order],
        labels=labels[order],
        splits=splits[order],
        near=near[order],
        classes=names,
        notes=tuple(notes),
    )


def _large_enough(
    labels: npt.NDArray[np.int64],
    together: npt.NDArray[np.int64],
    classes: Sequence[str],
    rule: SplitRule,
) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """(classes,) whether each stays, and a note that lists the others."""
    different = np.unique(np.stack([labels, together], axis=1), axis=0)[:, 0]
    stays = np.bincount(different, minlength=len(classes)) >= rule.min_images
    stays[: rule.classes_that_stay] = True
    left_out = [name for name, stay in zip(classes, stays, strict=True) if not stay]
    if stays.sum() < 2 <= len(classes):
        raise UserError(
            f"--min-images {rule.min_images}: only {stays.sum()} of {len(classes)} classes have as"
            " many different images; two are needed"
        )
    if not left_out:
        return stays, []
    return stays, [
        f"{len(left_out)} classes left out, with fewer than {rule.min_images} different images:"
        f" {', '.join(left_out)}"
    ]


def _split(
    labels: npt.NDArray[np.int64],
    content: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    pairs: npt.NDArray[np.int64],
    given: npt.NDArray[np.int8],
    classes: Sequence[str],
    rule: SplitRule,
) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Splits, and the labels of classes whose near-duplicates could not be kept together."""
    released: set[int] = set()
    known = given >= 0
    whole = range(len(classes))
    if known.any():
        # Classes with splits may stay as they are; those that are new are whole.
        whole = range(rule.classes_that_stay, len(classes)) if rule.classes_that_stay else ()
        whole = sorted(set(whole) - set(labels[known].tolist()))
    while True:
        try:
            splits = split_rows(
                labels,
                rows_together(content, groups, pairs=pairs),
                classes=classes,
                validation=rule.validation,
                test=rule.test,
                seed=rule.seed,
                given=given,
                fill=rule.fill,
                whole=whole,
            )
        except TooFewError as error:
            touching = np.isin(labels[pairs], error.labels).any(axis=1)
            if not touching.any():
                raise
            pairs = pairs[~touching]
            released.update(error.labels)
        else:
            return splits, sorted(released)


def _different(
    near: npt.NDArray[np.int64], content: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Clusters without those that are nothing but copies of one image, numbered from 0."""
    kinds = np.unique(np.stack([near, content], axis=1)[near >= 0], axis=0)[:, 0]
    several = np.isin(near, np.flatnonzero(np.bincount(kinds) > 1)) & (near >= 0)
    found = np.full(len(near), -1, dtype=np.int64)
    found[several] = np.unique(near[several], return_inverse=True)[1].reshape(-1)
    return found


def _in_several(numbers: npt.NDArray[np.int64], splits: npt.NDArray[np.uint8]) -> list[int]:
    """The numbers, from 0, that rows of several splits have."""
    known = numbers >= 0
    pairs = np.unique(np.stack([numbers[known], splits[known]], axis=1), axis=0)
    return np.flatnonzero(np.bincount(pairs[:, 0]) > 1).tolist()


def _notes_of_classes(
    labels: npt.NDArray[np.int64], splits: npt.NDArray[np.uint8], classes: Sequence[str]
) -> list[str]:
    lines = []
    for split, name in enumerate(SPLITS):
        images = np.bincount(labels[splits == split], minlength=len(classes))
        without = [classes[label] for label in np.flatnonzero(images == 0).tolist()]
        if without:
            lines.append(f"classes without {name} images: {some_of(without)}")
    return lines


def _notes_of_copies(
    labels: npt.NDArray[np.int64],
    content: npt.NDArray[np.int64],
    splits: npt.NDArray[np.uint8],
) -> list[str]:
    copies = len(labels) - len(np.unique(content))
    if not copies:
        return []
    pairs = np.unique(np.stack([content, labels], axis=1), axis=0)
    between = int((np.bincount(pairs[:, 0]) > 1).sum())
    spread = len(_in_several(content, splits))
    notes = [f"images that are copies of others (copies share a split): {copies:,}"]
    if spread:
        notes = [
            f"images that are copies of others: {copies:,}; {spread:,} images lie in several of the"
            " given splits"
        ]
    if between:
        notes.append(f"images that are in more than one class: {between:,}")
    return notes


def _notes_of_groups(
    groups: npt.NDArray[np.int64], splits: npt.NDArray[np.uint8], names: Sequence[str]
) -> list[str]:
    if groups.max(initial=-1) < 0:
        return []
    count = len(np.unique(groups[groups >= 0]))
    several = _in_several(groups, splits)
    if not several:
        return [f"groups, each in one split: {count:,}"]
    some = sorted(names[group] for group in several)
    return [
        f"groups: {count:,}, of which {len(several):,} lie in several of the given splits:"
        f" {some_of(some)}"
    ]


def _notes_of_near(
    near: npt.NDArray[np.int64], splits: npt.NDArray[np.uint8], released: Sequence[str]
) -> list[str]:
    if near.max(initial=-1) < 0:
        return []
    several = len(_in_several(near, splits))
    why = (
        f"the classes {some_of(released)} can't be split otherwise"
        if released
        else "given splits are kept"
    )
    where = (
        f"{several:,} of them in several splits, since {why}" if several else "each in one split"
    )
    count = int(near.max()) + 1
    return [
        f"near-duplicates: {(near >= 0).sum():,} images in {count:,} cluster{'s' * (count > 1)},"
        f" {where}"
    ]
