"""Writes prepared data: image by image, into files that appear whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from spaces.errors import UserError
from spaces.files import absolute, make_folder, partial_name, reason, remove_left_over
from trainables.data.arranging import Arrangement, SplitRule, UnsplitRows, arrange
from trainables.data.dataset import ABOUT, FORMAT_VERSION, data_files, read_about, read_rows
from trainables.data.digest import DIGEST_BYTES, data_digest, image_digest
from trainables.data.image_files import Facts, Fit
from trainables.data.image_table import PixelTable, PixelWriter, UInt8Array, open_pixels
from trainables.data.near_duplicates import HASH_BYTES, perceptual_hash
from trainables.data.splits import SPLITS, SplitName

_SCHEMA = pa.schema(
    [
        ("label", pa.int32()),
        ("split", pa.int8()),  # -1 until it is decided
        ("digest", pa.binary(DIGEST_BYTES)),
        ("source", pa.string()),
        ("group", pa.string()),
        ("position", pa.int64()),
        ("file", pa.binary(DIGEST_BYTES)),
        ("hash", pa.binary(HASH_BYTES)),
        ("enlarged", pa.bool_()),
        ("cut_off", pa.float32()),
        ("bits", pa.uint8()),
    ]
)

_ROWS_AT_ONCE = 4096


def check_free(out: Path) -> None:
    """Raise UserError if `out` exists already."""
    if os.path.lexists(absolute(out)):
        raise UserError(f"{out}: exists already; choose another path or remove it")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `out`, which becomes `out` when the block ends without an error.

    After an error or an interrupt nothing is left; after a kill, the hidden folder is, until the
    next call for `out` removes it. Raises UserError if `out` exists, or if a file can't be written.
    """
    out = absolute(out)
    check_free(out)
    remove_left_over(out.parent, out.name)
    make_folder(out.parent)
    with _hidden_folder(out.parent, out.name, out) as partial:
        yield partial
        partial.chmod(0o777 & ~_umask())  # mkdtemp gives other users no access
        _sync_folder(partial)
        check_free(out)
        partial.rename(out)
        _sync_folder(out.parent)


@contextmanager
def grown_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder in prepared data, whose files move into it when the block ends.

    data.json comes last, and names the others: until then, the data is as it was. Raises UserError
    if the data was changed meanwhile, or if a file can't be written.
    """
    out = absolute(out)
    remove_left_over(out)
    before = read_about(out)
    with _hidden_folder(out, "append", out) as partial:
        yield partial
        if (partial / ABOUT).exists():
            if read_about(out).digest != before.digest:
                raise UserError(f"{out}: was changed meanwhile; append again")
            for file in sorted(partial.iterdir(), key=lambda file: file.name == ABOUT):
                _sync_folder(out)
                file.replace(out / file.name)
            _sync_folder(out)
            (out / data_files(before.generation)[0]).unlink()


class DataWriter:
    """Collects images and labels. Writes pixels to disk at once; keeps some 200 bytes a row.

    Use it in a `with` block inside that of `new_folder` or `grown_folder`, whose folder it fills.
    Call `finish` last.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        *,
        fit: Fit = "crop",
        bits: int | None = None,
        earlier: "EarlierImages | None" = None,
    ) -> None:
        """fit, bits: how images became squares. earlier: those that the images are added to."""
        self._folder = folder
        self._size, self._fit, self._bits = size, fit, bits
        self._earlier = earlier
        self._generation = 1 if earlier is None else earlier.generation + 1
        self._first_position = 0 if earlier is None else len(earlier.pixels)
        self._rows_name, pixel_names = data_files(self._generation)
        self._file = (folder / pixel_names[-1]).open("xb")
        self._pixels = PixelWriter(self._file, size)
        self._finished = False
        self._rows: dict[str, list] = {name: [] for name in _SCHEMA.names}
        self._full: list[pa.RecordBatch] = []  # takes less memory than Python's objects
        self._known: set[tuple[int, bytes]] = set()
        if self._earlier is not None:
            labels, digests = self._earlier.rows["label"], self._earlier.rows["digest"]
            self._known = set(zip(labels.to_pylist(), digests.to_pylist(), strict=True))

    def __len__(self) -> int:
        """The number of images that were added."""
        return _ROWS_AT_ONCE * len(self._full) + len(self._rows["label"])

    def append(
        self,
        image: UInt8Array,
        label: int,
        source: str,
        *,
        split: SplitName | None = None,
        group: str | None = None,
        facts: Facts | None = None,
    ) -> bool:
        """Add one (size, size, 3) image of class `label`. Returns False if the data has it already.

        source: where it came from. split: where it belongs; None: it is split. group: images of a
        group share a split; None: of no group.
        """
        digest = image_digest(image)
        if (label, digest) in self._known:
            return False
        facts = facts or Facts()
        row = {
            "label": label,
            "split": -1 if split is None else SPLITS.index(split),
            "digest": digest,
            "source": source,
            "group": group,
            "position": self._first_position + len(self),
            **{name: getattr(facts, name) for name in Facts.__dataclass_fields__},
        }
        self._pixels.append(image)
        for name, column in self._rows.items():
            column.append(row[name])
        if len(self._rows["label"]) == _ROWS_AT_ONCE:
            self._full.append(pa.RecordBatch.from_pydict(self._rows, schema=_SCHEMA))
            self._rows = {name: [] for name in _SCHEMA.names}
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def keep(self) -> None:
        """Write what was added so far as if it were all, for `keep_decoded`."""
        self._finish_pixels()
        table = self._table()
        position = pa.array(range(len(table)), pa.int64())
        table = table.set_column(table.column_names.index("position"), "position", position)
        rows, (pixels,) = data_files(1)
        _write_table(self._folder / rows, table)
        Path(self._file.name).rename(self._folder / pixels)

    def finish(
        self,
        *,
        name: str,
        classes: Sequence[str],
        synthetic: bool,
        notes: Sequence[str],
        validation: float,
        test: float,
        seed: int,
        fill: Collection[SplitName] = SPLITS,
        min_images: int = 0,
    ) -> None:
        """Split the rows and write everything except pixels.

        Rows are ordered by class and content, whatever the order of the source: equal images make
        equal data. validation, test, seed, fill, min_images: as of `SplitRule`. Raises UserError
        if a class can't be split; `keep` works after that.
        """
        self._finish_pixels()
        table = self._table()
        if self._earlier is not None:
            table = pa.concat_tables([self._earlier.rows, table])
        rule = SplitRule(
            validation=validation,
            test=test,
            seed=seed,
            fill=fill,
            min_images=min_images,
            classes_that_stay=0 if self._earlier is None else self._earlier.num_classes,
        )
        rows = _unsplit(table)
        arranged = arrange(rows, classes, rule)
        self._write_rows(table, arranged)
        about = {
            "format_version": FORMAT_VERSION,
            "generation": self._generation,
            "name": name,
            "images": len(arranged.labels),
            "stored": self._first_position + len(self),
            "size": self._size,
            "fit": self._fit,
            "bits": self._bits,
            "classes": list(arranged.classes),
            "synthetic": synthetic,
            "digest": data_digest(
                self._size,
                arranged.classes,
                rows.digests[arranged.order].tobytes(),
                arranged.labels,
                arranged.splits,
            ),
            "grown_from": [] if self._earlier is None else list(self._earlier.digests),
            "split": {"validation": validation, "test": test, "seed": seed},
            "notes": [*notes, *arranged.notes],
            "source_notes": list(notes),
        }
        text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        with (self._folder / ABOUT).open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _finish_pixels(self) -> None:
        if not self._finished:
            self._pixels.finish()
        self._finished = True

    def _table(self) -> pa.Table:
        last = pa.RecordBatch.from_pydict(self._rows, schema=_SCHEMA)
        return pa.Table.from_batches([*self._full, last])

    def _write_rows(self, table: pa.Table, arranged: Arrangement) -> None:
        table = table.take(pa.array(arranged.order))
        for name, values in (
            ("label", pa.array(arranged.labels, pa.int32())),
            ("split", pa.array(arranged.splits, pa.uint8())),
        ):
            table = table.set_column(table.column_names.index(name), name, values)
        near = pa.array(arranged.near, pa.int64(), mask=arranged.near < 0)
        _write_table(self._folder / self._rows_name, table.append_column("cluster", near))


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierImages:
    """The images of prepared data that is to grow."""

    rows: pa.Table
    pixels: PixelTable
    """At the positions that the rows name."""
    generation: int
    num_classes: int
    digests: tuple[str, ...]
    """Of the data before each append, and now."""


def earlier_images(data: Path) -> EarlierImages:
    """Open prepared data, of any format, to add to it. Raises UserError for damaged data."""
    about, table = read_about(data), read_rows(data)
    pixels = open_pixels(*(data / name for name in data_files(about.generation)[1]))
    columns = []
    for field in _SCHEMA:
        if field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        elif field.name == "position":  # data of format 1 has images in the order of rows
            columns.append(pa.array(range(len(table)), field.type))
        elif field.name == "hash":
            images = (Image.fromarray(pixels.take([row])[0]) for row in range(len(table)))
            hashes = [perceptual_hash(image) for image in images]
            columns.append(pa.array(hashes, field.type))
        else:
            columns.append(pa.nulls(len(table), field.type))
    return EarlierImages(
        rows=pa.table(columns, schema=_SCHEMA),
        pixels=pixels,
        generation=about.generation,
        num_classes=len(about.classes),
        digests=(*about.grown_from, about.digest),
    )


def _unsplit(table: pa.Table) -> UnsplitRows:
    groups = table["group"].combine_chunks().dictionary_encode()
    return UnsplitRows(
        labels=table["label"].to_numpy().astype(np.int64),
        digests=_bytes_of(table["digest"], DIGEST_BYTES),
        groups=groups.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64),
        group_names=groups.dictionary.to_pylist(),
        hashes=_bytes_of(table["hash"], HASH_BYTES),
        hashed=table["hash"].is_valid().to_numpy(),
        given=table["split"].to_numpy().astype(np.int8),
    )


def _bytes_of(column: pa.ChunkedArray, width: int) -> npt.NDArray[np.uint8]:
    """(rows, width); zeros where the column has no value."""
    filled = column.combine_chunks().fill_null(bytes(width))
    return np.frombuffer(b"".join(filled.to_pylist()), np.uint8).reshape(-1, width)


def _write_table(path: Path, table: pa.Table) -> None:
    with path.open("xb") as file:
        with pa.ipc.new_file(file, table.schema) as sink:
            sink.write_table(table)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _hidden_folder(parent: Path, name: str, out: Path) -> Iterator[Path]:
    """A folder that is gone when the block ends, unless it was renamed."""
    try:
        partial = Path(tempfile.mkdtemp(prefix=f"{partial_name(name)}-", dir=parent))
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{out}: can't be written: {reason(error)}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
