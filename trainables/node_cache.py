"""Files that are computed once on a machine and shared by all its processes."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from spaces.errors import UserError


def cache_folder() -> Path:
    """Return $FLOPWISE_CACHE, or ~/.cache/flopwise. What lies there can be deleted at any time."""
    return Path(os.environ.get("FLOPWISE_CACHE") or "~/.cache/flopwise").expanduser()


def make_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return path, a file in the cache, after `make(partial)` has written it if it was missing.

    One process makes it and others wait. It appears by a rename: a maker that is killed leaves a
    partial file that the next one removes. Raises UserError where it can't be written.
    """
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                _make_here(path, make)
    except OSError as error:
        raise UserError(
            f"{path.parent}: can't be written: {error.strerror or error};"
            " set FLOPWISE_CACHE to a folder with room"
        ) from None
    return path


def _make_here(path: Path, make: Callable[[Path], None]) -> None:
    for left_over in path.parent.glob(f".{path.name}.partial-*/*"):
        left_over.unlink()
    for left_over in path.parent.glob(f".{path.name}.partial-*"):
        left_over.rmdir()
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.partial-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        make(partial)
        partial.replace(path)
