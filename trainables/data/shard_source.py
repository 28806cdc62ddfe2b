"""Images in Parquet shards, as Hugging Face stores its data sets: the files' bytes and a label."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spaces.errors import UserError
from spaces.files import check_file, reason
from spaces.yaml_files import cut
from trainables.data.image_files import content_digest, read_square
from trainables.data.image_sources import (
    SPLIT_NAMES,
    Sample,
    Source,
    file_sample,
)
from trainables.data.image_walk import readable
from trainables.data.splits import SPLITS, SplitName, some_of

# Read so many rows at a time: photographs take some 100 kB each.
_ROWS_AT_ONCE = 32
_METADATA = b"huggingface"
# Hugging Face's label of images that have none, such as those of a test split.
_NO_LABEL = (None, -1)


def shards_in(folder: Path) -> list[Path]:
    """The Parquet files of a folder, at any depth, sorted."""
    return sorted(folder.rglob("*.parquet"))


def has_images(shard: Path) -> bool:
    """Whether a Parquet file has a column of images. Raises UserError if it can't be read."""
    return bool(_image_columns(shard, _features(shard)))


def shard_source(folder: Path, shards: Sequence[Path]) -> Source:
    """Open the images of shards.

    The columns are those of the features that the schema describes, or else the one with bytes and
    paths, and `label`. A file whose name, or a folder's name above it, begins with that of a split
    belongs to it. Images without a label are left out. Raises UserError for a file that can't be
    read, or that has no such columns.
    """
    features = _features(shards[0])
    image, label = _columns(shards[0], features)
    names = features.get(label, {}).get("names")
    split_of: dict[Path, SplitName | None] = {shard: _split_of(shard, folder) for shard in shards}
    by_split: dict[SplitName | None, Counter[Any]] = {}
    for shard in shards:
        found = by_split.setdefault(split_of[shard], Counter())
        for batch in _batches(shard, [label]):
            found.update(batch[label].to_pylist())
    counts = sum(by_split.values(), Counter[Any]())
    unlabelled = sum(counts.pop(value, 0) for value in _NO_LABEL)
    if names is None:
        values = sorted(counts)
        classes = tuple(readable(str(value)) for value in values)
        label_of = {value: position for position, value in enumerate(values)}
    else:
        classes = tuple(readable(name) for name in names)
        label_of = {position: position for position in range(len(names))}
        unknown = [value for value in counts if value not in label_of]
        if unknown:
            raise UserError(f"{folder}: label {unknown[0]} is none of the {len(names)} classes")
    given: tuple[SplitName, ...] = tuple(
        split for split in SPLITS if by_split.get(split, Counter()).keys() - {*_NO_LABEL}
    )

    def samples() -> Iterator[Sample]:
        for shard in shards:
            for row, cell, value in _rows(shard, image, label):
                if value not in _NO_LABEL:
                    where = f"{shard.relative_to(folder)} row {row}"
                    yield _sample(folder, cell, label_of[value], where, split_of[shard])

    notes = [f"{len(shards)} Parquet files: images in {image}, classes in {label}"]
    if given:
        notes[0] += f", splits {', '.join(given)}"
    if unlabelled:
        notes.append(f"images left out, since they have no label: {unlabelled:,}")
    return Source(
        name=readable(folder.resolve().name),
        classes=classes,
        counts=tuple(counts[value] for value in label_of),
        total=counts.total(),
        samples=samples,
        splits=given,
        notes=tuple(notes),
    )


def _sample(folder: Path, cell: Any, label: int, where: str, split: SplitName | None) -> Sample:
    path, content = (
        (cell.get("path"), cell.get("bytes")) if isinstance(cell, dict) else (None, cell)
    )
    location = readable(f"{path} ({where})" if path else where)
    if content is None and path:
        sample = file_sample(folder / path, label, location)
    else:
        sample = Sample(
            label=label,
            location=location,
            read=partial(read_square, content or b""),
            digest=partial(content_digest, content or b""),
        )
    return replace(sample, split=split, path=readable(path or ""))


def _rows(shard: Path, image: str, label: str) -> Iterator[tuple[int, Any, Any]]:
    """Number, image and label of each row."""
    row = 0
    for batch in _batches(shard, [image, label]):
        for cell, value in zip(batch[image].to_pylist(), batch[label].to_pylist(), strict=True):
            row += 1
            yield row, cell, value


def _split_of(shard: Path, folder: Path) -> SplitName | None:
    for name in reversed(shard.relative_to(folder).parts):
        split = SPLIT_NAMES.get(name.lower().replace(".", "-").split("-")[0])
        if split is not None:
            return split
    return None


def _features(shard: Path) -> dict[str, dict[str, Any]]:
    """What the schema says about each column; nothing if other software wrote it."""
    metadata = _open(shard).schema_arrow.metadata or {}
    try:
        features = json.loads(metadata[_METADATA])["info"]["features"]
        return {name: kind for name, kind in features.items() if isinstance(kind, dict)}
    except (LookupError, ValueError, TypeError, AttributeError):
        return {}


def _image_columns(shard: Path, features: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, kind in features.items() if kind.get("_type") == "Image"] or [
        field.name
        for field in _open(shard).schema_arrow
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]


def _columns(shard: Path, features: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """The names of the columns with images and with labels."""
    columns = _open(shard).schema_arrow.names
    images = _image_columns(shard, features)
    labels = [name for name, kind in features.items() if kind.get("_type") == "ClassLabel"] or [
        name for name in ("label", "labels", "class") if name in columns
    ]
    if not images or not labels:
        missing = "images (bytes and path)" if not images else "a label"
        raise UserError(f"{shard}: no column has {missing}; it has {some_of(columns)}")
    return images[0], labels[0]


def _batches(shard: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from _open(shard).iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(shard, error) from None


def _open(shard: Path) -> pq.ParquetFile:
    check_file(shard)
    try:
        return pq.ParquetFile(shard)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(shard, error) from None


def _damaged(shard: Path, error: Exception) -> UserError:
    return UserError(f"{shard}: can't be read as Parquet: {cut(reason(error), 200)}")
