"""Labels in a table: CSV or Parquet, a row for each image, with its path and class."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from spaces.errors import UserError
from spaces.yaml_files import did_you_mean, shorten
from trainables.data.image_files import Square, read_square
from trainables.data.image_sources import SPLIT_NAMES, Sample, Source, readable
from trainables.data.splits import SPLITS, SplitName

# What people call the columns, in lower case, best first.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "image", "filepath"),
    "label": ("label", "class", "category", "target"),
    "split": ("split", "subset", "partition"),
    "group": ("group",),
}
_REQUIRED = ("path", "label")
_TOLD = 5


def table_source(table: Path, images: Path | None, columns: Mapping[str, str]) -> Source:
    """Read the labels of images from a table.

    images: the folder that paths start at; None: the table's. columns: names of columns by their
    meaning, of COLUMNS; the others are found by their usual names. Columns for split and group may
    be missing. Raises UserError for a table that can't be read, lacks a column, names a split that
    is none, or lacks a value.
    """
    rows = _read(table)
    found = _find_columns(table, list(rows.columns), columns)
    rows = rows.rename(columns={column: meaning for meaning, column in found.items()})[list(found)]
    rows = rows.astype("string")
    for meaning in _REQUIRED:
        empty = rows.index[rows[meaning].isna() | (rows[meaning].str.strip() == "")]
        if len(empty):
            raise UserError(
                f"{table}: {len(empty)} rows have no {found[meaning]}, the first is row"
                f" {empty[0] + 1}; fill them in or remove them"
            )
    splits = _splits_of(table, rows)
    names = sorted({readable(name) for name in rows["label"]})
    label_of = {name: label for label, name in enumerate(names)}
    rows = rows.assign(label=[readable(name) for name in rows["label"]]).sort_values(
        ["label", "path"], kind="stable"
    )
    top = images or table.parent
    counts = rows["label"].value_counts()

    def samples() -> Iterator[Sample]:
        for row in rows.itertuples(index=False):
            path = str(row.path)
            yield Sample(
                label=label_of[str(row.label)],
                location=readable(path),
                read=_reader(top / path),
                split=splits.get(str(row.split).strip().lower()) if "split" in rows else None,
                group=None if "group" not in rows or pd.isna(row.group) else str(row.group),
            )

    return Source(
        name=readable(table.stem),
        classes=tuple(names),
        counts=tuple(int(counts[name]) for name in names),
        total=len(rows),
        samples=samples,
        splits=tuple(split for split in SPLITS if split in splits.values()),
        notes=(
            f"labels are those of {table.name}: "
            + ", ".join(f"{meaning} from {column}" for meaning, column in found.items()),
        ),
    )


def _read(table: Path) -> pd.DataFrame:
    try:
        if table.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(table)
        if table.suffix.lower() in (".csv", ".tsv"):
            separator = "\t" if table.suffix.lower() == ".tsv" else ","
            # As text: 007 is a name, and so is NA.
            return pd.read_csv(table, sep=separator, dtype="string", keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{table}: there is no such file") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = shorten(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise UserError(f"{table}: can't be read as a table: {reason}") from None
    raise UserError(f"{table}: is neither .csv, .tsv nor .parquet")


def _find_columns(table: Path, names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Meaning -> name of its column."""
    found = {}
    lower = {str(name).lower(): str(name) for name in names}
    for meaning, usual in COLUMNS.items():
        if meaning in given:
            if given[meaning] not in names:
                raise UserError(
                    f"{table}: has no column {given[meaning]}"
                    f"{did_you_mean(given[meaning], names)}; it has {shorten(', '.join(names))}"
                )
            found[meaning] = given[meaning]
            continue
        column = next((lower[name] for name in usual if name in lower), None)
        if column is not None:
            found[meaning] = column
        elif meaning in _REQUIRED:
            raise UserError(
                f"{table}: has no column for the {meaning}; it has {shorten(', '.join(names))};"
                f" name one with --column {meaning}=NAME"
            )
    return found


def _splits_of(table: Path, rows: pd.DataFrame) -> dict[str, SplitName]:
    """What the table calls its splits -> the split."""
    if "split" not in rows:
        return {}
    written = {str(name).strip().lower() for name in rows["split"].dropna()} - {""}
    unknown = sorted(written - SPLIT_NAMES.keys())
    if unknown:
        raise UserError(
            f"{table}: {shorten(', '.join(unknown[:_TOLD]))} in the column for the split; write"
            " train, validation or test, or leave cells empty where it is to be drawn"
        )
    return {name: SPLIT_NAMES[name] for name in written}


def _reader(file: Path) -> Callable[[int], Square]:
    return lambda size: read_square(file, size)
