"""Copies prepared data from elsewhere into each machine's cache, once, and checks the copy.

The source is a folder, or an address that pyarrow or fsspec reads: s3://bucket/animals,
gs://bucket/animals, file:///shared/animals.
"""

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spaces.addresses import is_address
from spaces.errors import UserError
from trainables.data.dataset import ABOUT, ImageData, data_files, open_data
from trainables.data.digest import data_digest, image_digest
from trainables.data.image_table import BATCH_BYTES, open_arrow, open_pixels
from trainables.system.addresses import NOT_REACHED, message, where_it_lies
from trainables.system.shared_cache import cache_folder, make_once

_CHUNK_BYTES = 8 << 20
# As many as data.json may name.
_MOST_FILES = 10**4


def open_near_data(where: str | Path, *, copy: bool = False) -> ImageData:
    """Open prepared data. For an address, opens this machine's copy, and makes it if missing.

    copy: copy a folder too, which may be on another machine's disks. Raises UserError as
    `open_data` does, and if the data can't be read or a copy does not match data.json.
    """
    if not copy and not is_address(str(where)):
        return open_data(Path(where))
    return open_data(copy_data(str(where)))


def copy_data(where: str) -> Path:
    """Return this machine's copy of prepared data. One process makes it; others wait."""
    source = _Source(where)
    written = source.read(ABOUT)
    try:
        about = json.loads(written)
        digest = str(about["digest"])
        rows, files = data_files(min(int(about.get("generation", 1)), _MOST_FILES))
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{where}/{ABOUT}: damaged; prepare the data again ({error})") from None
    if not re.fullmatch(r"[0-9a-f]{32}", digest):
        raise UserError(f"{where}/{ABOUT}: damaged; prepare the data again (bad digest)")
    folder = cache_folder() / "data" / digest
    if not (folder / ABOUT).exists():
        for name in (rows, *files):
            make_once(folder / name, partial(source.copy, name))
    # This file comes last: it only exists once the others are found to be right.
    make_once(folder / ABOUT, partial(_finish, folder, about, (rows, files), written, where))
    return folder


def _finish(
    folder: Path,
    about: dict[str, Any],
    names: tuple[str, tuple[str, ...]],
    written: bytes,
    where: str,
    path: Path,
) -> None:
    rows, files = names
    try:
        right = _digest_of(folder, about, names) == about["digest"]
    except (UserError, pa.ArrowException, LookupError, TypeError, ValueError):
        right = False
    if not right:
        for name in (rows, *files):
            (folder / name).unlink(missing_ok=True)
        raise UserError(
            f"{where}: the copy does not match {ABOUT}: it was damaged on the way or at its source;"
            " try again, or prepare the data again"
        )
    path.write_bytes(written)


def _digest_of(folder: Path, about: dict[str, Any], names: tuple[str, tuple[str, ...]]) -> str:
    """The digest of a folder's pixels and rows, computed from their content."""
    rows = open_arrow(folder / names[0]).read_all()
    positions = rows["position"].to_numpy() if "position" in rows.column_names else None
    pixels = open_pixels(*(folder / name for name in names[1]), positions=positions)
    chunk = max(1, BATCH_BYTES // pixels.size**2 // 3)
    digests = bytearray()
    for start in range(0, len(pixels), chunk):
        for image in pixels.take(np.arange(start, min(start + chunk, len(pixels)))):
            digests += image_digest(image)
    labels = rows["label"].to_numpy().astype(np.int64)
    splits = rows["split"].to_numpy().astype(np.uint8)
    return data_digest(pixels.size, about["classes"], digests, labels, splits)


class _Source:
    """Reads the files of prepared data from a folder or an address."""

    def __init__(self, where: str) -> None:
        self._where = where.rstrip("/")
        try:
            self._files, self._folder = where_it_lies(self._where)
        except UserError:
            raise
        except NOT_REACHED as error:
            raise self._unreadable(error) from None

    def read(self, name: str) -> bytes:
        """The whole content of a small file."""
        with self._open(name) as file:
            return self._next(file, size=None)

    def copy(self, name: str, path: Path) -> None:
        """Copy a file to this machine. Raises OSError if writing fails."""
        with self._open(name) as file, path.open("xb") as target:
            while chunk := self._next(file, size=_CHUNK_BYTES):
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())

    def _open(self, name: str) -> pa.NativeFile:
        try:
            return self._files.open_input_stream(f"{self._folder}/{name}")
        except OSError as error:
            raise self._unreadable(error) from None

    def _next(self, file: pa.NativeFile, size: int | None) -> bytes:
        try:
            return file.read(size)
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"{self._where}: can't read prepared data: {message(error)}")
