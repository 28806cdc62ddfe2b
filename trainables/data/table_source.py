"""Labels in a table: CSV or Parquet, a row for each image, with its path and class."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from spaces.errors import UserError
from spaces.files import check_file, reason
from spaces.yaml_files import cut, did_you_mean, shorten
from trainables.data.image_sources import (
    SPLIT_NAMES,
    Sample,
    Source,
    file_sample,
)
from trainables.data.image_walk import readable
from trainables.data.splits import SPLITS, SplitName, some_of

# What people call the columns, in lower case, best first.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "image", "filepath"),
    "label": ("label", "class", "category", "target"),
    "split": ("split", "subset", "partition"),
    "group": ("group",),
}
TABLES = (".csv", ".tsv", ".parquet", ".pq")
_REQUIRED = ("path", "label")


def table_source(table: Path, images: Path, columns: Mapping[str, str]) -> Source:
    """Read the labels of images from a table.

    images: the folder that paths start at. columns: names of columns by their meaning, of COLUMNS;
    the others are found by their usual names. Those for split and group may be missing, and so may
    their values. Raises UserError for a table that can't be read, lacks a column or a value, or
    names a split that is none.
    """
    written = _read(table)
    found = _find_columns(table, list(map(str, written.columns)), columns)
    cells = {
        meaning: written[column].astype("string").fillna("").str.strip().tolist()
        for meaning, column in found.items()
    }
    for meaning in _REQUIRED:
        empty = [row for row, cell in enumerate(cells[meaning], 1) if not cell]
        if empty:
            raise UserError(
                f"{table}: {len(empty)} rows have no {found[meaning]}, the first is row"
                f" {empty[0]}; fill them in or remove them"
            )
    if not cells["path"]:
        raise UserError(f"{table}: has no rows")
    labels = [readable(label) for label in cells["label"]]
    splits = _splits_of(table, cells.get("split", [""] * len(labels)))
    groups = cells.get("group", [""] * len(labels))
    names = sorted(set(labels))
    label_of = {name: label for label, name in enumerate(names)}
    order = sorted(range(len(labels)), key=lambda row: (labels[row], cells["path"][row]))
    total = Counter(labels)
    given: tuple[SplitName, ...] = tuple(split for split in SPLITS if split in splits)

    def samples() -> Iterator[Sample]:
        for row in order:
            path = cells["path"][row]
            yield file_sample(
                images / path,
                label_of[labels[row]],
                path,
                split=splits[row],
                group=groups[row] or None,
            )

    columns_read = ", ".join(f"{meaning} from {column}" for meaning, column in found.items())
    return Source(
        name=readable(table.stem),
        classes=tuple(names),
        counts=tuple(total[name] for name in names),
        total=len(labels),
        samples=samples,
        splits=given,
        grouped="group" in found,
        notes=(f"labels are those of {readable(table.name)}: {columns_read}",),
    )


def columns_of(table: Path) -> list[str]:
    """The names of a table's columns. Raises UserError if it can't be read."""
    return [str(name) for name in _read(table).columns]


def _read(table: Path) -> pd.DataFrame:
    check_file(table, what="table")
    suffix = table.suffix.lower()
    if suffix not in TABLES:
        raise UserError(f"{table}: is no table; name one that ends in {', '.join(TABLES)}")
    try:
        if suffix in (".parquet", ".pq"):
            return pd.read_parquet(table)
        # As text: 007 is a name, and so is NA.
        separator = "\t" if suffix == ".tsv" else ","
        return pd.read_csv(table, sep=separator, dtype="string", keep_default_na=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{table}: can't be read as a table: {cut(reason(error), 200)}") from None


def _find_columns(table: Path, names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Meaning -> name of its column."""
    unknown = sorted(given.keys() - COLUMNS.keys())
    if unknown:
        raise UserError(
            f"--column {unknown[0]}={given[unknown[0]]}: a table has columns for"
            f" {', '.join(COLUMNS)}"
        )
    found = {}
    lower = {name.lower(): name for name in names}
    for meaning, usual in COLUMNS.items():
        if meaning in given:
            if given[meaning] not in names:
                raise UserError(
                    f"{table}: has no column {given[meaning]}"
                    f"{did_you_mean(given[meaning], names)}; it has {some_of(names)}"
                )
            found[meaning] = given[meaning]
            continue
        column = next((lower[name] for name in usual if name in lower), None)
        if column is not None:
            found[meaning] = column
        elif meaning in _REQUIRED:
            raise UserError(
                f"{table}: has no column for the {meaning}; it has {some_of(names)};"
                f" name one with --column {meaning}=NAME"
            )
    return found


def _splits_of(table: Path, written: Sequence[str]) -> list[SplitName | None]:
    """The split of each row; None where its cell is empty."""
    unknown = sorted(
        {name for name in written if name} - {name for name in written if _split(name)}
    )
    if unknown:
        raise UserError(
            f"{table}: {some_of([shorten(name) for name in unknown], 5)} in the column for the"
            " split; write train, validation or test, or leave the cell empty"
        )
    return [_split(name) for name in written]


def _split(name: str) -> SplitName | None:
    return SPLIT_NAMES.get(name.lower())
