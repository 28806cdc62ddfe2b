"""Images in Parquet shards, as Hugging Face's data sets are stored: the files' bytes and a label."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spaces.errors import UserError
from spaces.yaml_files import shorten
from trainables.data.image_files import Square, read_square
from trainables.data.image_sources import SPLIT_NAMES, Sample, Source, readable
from trainables.data.splits import SPLITS, SplitName

# Read so many rows at a time: photographs take some 100 kB each.
_ROWS_AT_ONCE = 32
_METADATA = b"huggingface"


def shards_in(folder: Path) -> list[Path]:
    """The Parquet files of a folder, at any depth, sorted."""
    return sorted(folder.rglob("*.parquet"))


def shard_source(folder: Path, shards: Sequence[Path]) -> Source:
    """Open the images of shards.

    The columns are those of the features that the schema describes, or else the one with bytes and
    paths, and `label`. A file whose name, or whose folder's name, begins with that of a split
    belongs to it. Raises UserError for a file that can't be read, or that has no such columns.
    """
    features = _features(shards[0])
    image, label = _columns(shards[0], features)
    names = features.get(label, {}).get("names")
    splits = {shard: _split_of(shard, folder) for shard in shards}
    counts = Counter[Any]()
    for shard in shards:
        for batch in _batches(shard, [label]):
            counts.update(batch[label].to_pylist())
    if None in counts:
        raise UserError(f"{folder}: {counts[None]} rows have no {label}; remove them")
    values = sorted(counts)
    if names is None:
        classes = tuple(readable(str(value)) for value in values)
        label_of = {value: position for position, value in enumerate(values)}
    else:
        classes = tuple(readable(name) for name in names)
        label_of = {position: position for position in range(len(names))}
        unknown = [value for value in values if value not in label_of]
        if unknown:
            raise UserError(f"{folder}: label {unknown[0]} is none of the {len(names)} classes")

    def samples() -> Iterator[Sample]:
        for shard in shards:
            row = 0
            for batch in _batches(shard, [image, label]):
                for cell, value in zip(
                    batch[image].to_pylist(), batch[label].to_pylist(), strict=True
                ):
                    row += 1
                    name = cell.get("path") if isinstance(cell, dict) else None
                    where = f"{shard.relative_to(folder)} row {row}"
                    yield Sample(
                        label=label_of[value],
                        location=readable(f"{where}: {name}" if name else where),
                        read=_reader(cell.get("bytes") if isinstance(cell, dict) else cell),
                        split=splits[shard],
                    )

    found = [split for split in SPLITS if split in splits.values()]
    of_splits = f", splits {', '.join(found)}" if found else ""
    of_class = [0] * len(classes)
    for value, count in counts.items():
        of_class[label_of[value]] += count
    return Source(
        name=readable(folder.resolve().name),
        classes=classes,
        counts=tuple(of_class),
        total=counts.total(),
        samples=samples,
        splits=tuple(found),
        notes=(f"{len(shards)} Parquet files: images in {image}, classes in {label}{of_splits}",),
    )


def _split_of(shard: Path, folder: Path) -> SplitName | None:
    for name in (shard.name, shard.relative_to(folder).parts[0]):
        split = SPLIT_NAMES.get(name.lower().replace(".", "-").split("-")[0])
        if split is not None:
            return split
    return None


def _features(shard: Path) -> dict[str, Any]:
    metadata = _open(shard).schema_arrow.metadata or {}
    try:
        return json.loads(metadata[_METADATA])["info"]["features"]
    except (LookupError, ValueError, TypeError):
        return {}


def _columns(shard: Path, features: dict[str, Any]) -> tuple[str, str]:
    """The names of the columns with images and with labels."""
    schema = _open(shard).schema_arrow
    images = [name for name, kind in features.items() if kind.get("_type") == "Image"] or [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    labels = [name for name, kind in features.items() if kind.get("_type") == "ClassLabel"] or [
        name for name in ("label", "labels", "class") if name in schema.names
    ]
    if not images or not labels:
        missing = "images (bytes and path)" if not images else "a label"
        raise UserError(f"{shard}: no column has {missing}; it has {shorten(schema.names)}")
    return images[0], labels[0]


def _batches(shard: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from _open(shard).iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{shard}: damaged: {shorten(str(error))}") from None


def _open(shard: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(shard)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{shard}: can't be read as Parquet: {shorten(str(error))}") from None


def _reader(content: bytes | None) -> Callable[[int], Square]:
    return lambda size: read_square(io.BytesIO(content or b""), size)
