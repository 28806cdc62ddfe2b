"""Files in a folder, or at an address that pyarrow or fsspec reads and writes."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from spaces.addresses import check_address, is_address
from spaces.files import absolute
from spaces.yaml_files import cut

_RETRY_SECONDS = 10
NOT_REACHED = (pa.ArrowException, ImportError, OSError, ValueError)
"""Raised if an address is of an unknown kind, needs a missing package, or does not answer."""


def where_it_lies(where: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a folder or an address, and the path there. Raises NOT_REACHED."""
    if not is_address(where):
        return pafs.LocalFileSystem(), str(absolute(Path(where)))
    check_address(where)
    if where.startswith(("gs://", "gcs://")) and "retry_limit_seconds=" not in where:
        # By default, it tries for 15 minutes.
        where += f"{'&' if '?' in where else '?'}retry_limit_seconds={_RETRY_SECONDS}"
    try:
        return pafs.FileSystem.from_uri(where)
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem type" not in str(error):
            raise
        # fsspec may know this kind of address.
        from fsspec.core import url_to_fs

        files, folder = url_to_fs(where)
        return pafs.PyFileSystem(pafs.FSSpecHandler(files)), folder


def read_file(folder: str, name: str) -> bytes:
    """The content of a file in a folder or below an address. Raises NOT_REACHED."""
    files, path = where_it_lies(folder)
    with files.open_input_stream(f"{path}/{name}") as file:
        return file.read()


def message(error: Exception) -> str:
    """A file system's error message, in one line."""
    return cut(re.sub(r" \(Request ID: \S*\)", "", " ".join(str(error).split())), 300)
