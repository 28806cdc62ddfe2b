"""Writes prepared data: image by image, into a folder that appears whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spaces.errors import UserError
from spaces.files import absolute, make_folder, partial_name, remove_left_over
from trainables.data.dataset import ABOUT, FORMAT_VERSION, PIXELS, ROWS
from trainables.data.digest import DIGEST_BYTES, data_digest, image_digest
from trainables.data.image_table import PixelWriter, UInt8Array
from trainables.data.splits import SPLITS, SplitName, rows_together, split_rows


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
    try:
        partial = Path(tempfile.mkdtemp(prefix=f"{partial_name(out.name)}-", dir=out.parent))
        try:
            yield partial
            partial.chmod(0o777 & ~_umask())  # mkdtemp gives other users no access
            _sync_folder(partial)
            check_free(out)
            partial.rename(out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync_folder(out.parent)
    except OSError as error:
        raise UserError(f"{out}: can't be written: {error.strerror or error}") from None


class DataWriter:
    """Collects images and labels. Writes pixels to disk at once; keeps some 100 bytes a row.

    Use it in a `with` block inside that of `new_folder`, whose folder it fills. Call `finish` last.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._file = (folder / PIXELS).open("xb")
        self._pixels = PixelWriter(self._file, size)
        self._labels: list[int] = []
        self._digests = bytearray()
        self._sources: list[str] = []
        self._given: list[int] = []
        self._groups: list[str | None] = []

    def append(
        self,
        image: UInt8Array,
        label: int,
        source: str,
        *,
        split: SplitName | None = None,
        group: str | None = None,
    ) -> None:
        """Add one (size, size, 3) image of class `label`.

        source: where it came from. split: where it belongs; None: it is split. group: images of a
        group share a split; None: of no group.
        """
        self._pixels.append(image)
        self._labels.append(label)
        self._digests += image_digest(image)
        self._sources.append(source)
        self._given.append(-1 if split is None else SPLITS.index(split))
        self._groups.append(group)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

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
    ) -> None:
        """Split the rows and write everything except pixels.

        Rows are ordered by class and content, whatever the order of the source: equal images make
        equal data. Raises UserError if a class can't be split.
        """
        self._pixels.finish()
        labels = np.array(self._labels, dtype=np.int64)
        digests = np.frombuffer(self._digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        _, groups = np.unique(np.array(self._groups, dtype=object).astype(str), return_inverse=True)
        of_none = np.array([group is None for group in self._groups])
        splits = split_rows(
            labels,
            rows_together(digests, np.where(of_none, -1, groups)),
            classes=classes,
            validation=validation,
            test=test,
            seed=seed,
            given=np.array(self._given, dtype=np.int8),
        )
        high, low = digests.view(">u8").T
        order = np.lexsort((low, high, labels))
        self._write_rows(splits, order)
        labels, digests, splits = labels[order], digests[order], splits[order]
        about = {
            "format_version": FORMAT_VERSION,
            "name": name,
            "images": len(labels),
            "size": self._size,
            "classes": list(classes),
            "synthetic": synthetic,
            "digest": data_digest(self._size, classes, digests.tobytes(), labels, splits),
            "split": {"validation": validation, "test": test, "seed": seed},
            "notes": [*notes, *_equal_content_notes(labels, digests)],
        }
        text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        with (self._folder / ABOUT).open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _write_rows(self, splits: npt.NDArray[np.uint8], order: npt.NDArray[np.intp]) -> None:
        digests = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(DIGEST_BYTES), len(splits), [None, pa.py_buffer(bytes(self._digests))]
        )
        table = pa.table(
            {
                "label": pa.array(self._labels, pa.int32()),
                "split": pa.array(splits, pa.uint8()),
                "digest": digests,
                "source": pa.array(self._sources, pa.string()),
                "group": pa.array(self._groups, pa.string()),
                "position": pa.array(range(len(splits)), pa.int64()),
            }
        ).take(pa.array(order))
        with (self._folder / ROWS).open("xb") as file:
            with pa.ipc.new_file(file, table.schema) as sink:
                sink.write_table(table)
            file.flush()
            os.fsync(file.fileno())


def _equal_content_notes(
    labels: npt.NDArray[np.int64], digests: npt.NDArray[np.uint8]
) -> list[str]:
    contents, group = np.unique(digests, axis=0, return_inverse=True)
    copies = len(labels) - len(contents)
    if not copies:
        return []
    pairs = np.unique(np.stack([group.reshape(-1), labels], axis=1), axis=0)
    between = int((np.bincount(pairs[:, 0]) > 1).sum())
    notes = [f"images that are copies of others (copies share a split): {copies}"]
    if between:
        notes.append(f"images that are in more than one class: {between}")
    return notes


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
