"""Files that are computed once on a machine and shared by all its processes."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from spaces.errors import UserError


def cache_folder() -> Path:
    """Return $FLOPWISE_CACHE, or ~/.cache/flopwise. What lies there can be deleted at any time."""
    return Path(os.environ.get("FLOPWISE_CACHE") or "~/.cache/flopwise").expanduser()


def make_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return path, a file in the cache, after `make(partial)` has written it if it was missing.

    One process makes it and others wait. It appears by a rename: a maker that is killed leaves a
    partial file that the next one removes. Raises UserError where it can't be written.
    """
    try:
        return _make_once(path, make)
    except OSError as error:
        raise UserError(
            f"{path.parent}: can't be written: {error.strerror or error};"
            " set FLOPWISE_CACHE to a folder with room"
        ) from None


def free_bytes(folder: Path) -> int:
    """Room on the disk where a folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


class BoundedFolder:
    """Files of the cache that together stay below a bound: the least recently used ones go.

    A process that has one of them mapped keeps what it has: the system frees it afterwards.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self.limit_bytes = limit_bytes

    def find(self, name: str) -> Path | None:
        """The file of that name, from now on the one used last; None where there is none."""
        path = self._folder / name
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        except OSError:  # a folder that is read-only
            return path
        return path

    def make_once(self, name: str, num_bytes: int, write: Callable[[BinaryIO], None]) -> Path:
        """Return the file of that name, after `write` has filled it if it was missing.

        num_bytes: its size, for which room is made before anything is computed. One process writes
        and others wait. Raises OSError where there is no room, or the folder can't be written.
        """

        def make(partial: Path) -> None:
            with self._allocate(partial, num_bytes) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())  # after a power cut, its blocks would be there, but empty

        return self.find(name) or _make_once(self._folder / name, make)

    def _allocate(self, partial: Path, num_bytes: int) -> BinaryIO:
        # One at a time, so that each sees what the others have taken.
        with FileLock(self._folder / ".room.lock"):
            self._make_room(num_bytes, besides=partial.parent)
            file = partial.open("xb")
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, num_bytes)
            except OSError as error:
                # Some file systems can't reserve; on those, writing finds out.
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    file.close()
                    raise
            return file

    def _make_room(self, num_bytes: int, besides: Path) -> None:
        files = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if ".partial-" in path.name and path != besides:
                    num_bytes += _bytes_of_partial(path)
                elif not path.name.startswith("."):
                    files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        held = sum(size for _, size, _ in files)
        if num_bytes > self.limit_bytes:
            raise OSError(errno.ENOSPC, f"more than the {self.limit_bytes:,} bytes of the bound")
        for _, size, path in sorted(files):
            if held + num_bytes <= self.limit_bytes:
                break
            path.unlink(missing_ok=True)
            held -= size


def _bytes_of_partial(folder: Path) -> int:
    """What a file that is being written takes; nothing once its writer is dead, and it is gone."""
    name = folder.name.removeprefix(".").split(".partial-")[0]
    try:
        with FileLock(_lock_of(folder.with_name(name)), timeout=0):
            _remove_partials(folder.with_name(name))
            return 0
    except Timeout:
        return sum(file.stat().st_size for file in folder.iterdir())


def _make_once(path: Path, make: Callable[[Path], None]) -> Path:
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_lock_of(path)):
        if not path.exists():
            _remove_partials(path)
            with tempfile.TemporaryDirectory(
                prefix=f".{path.name}.partial-", dir=path.parent
            ) as folder:
                partial = Path(folder) / path.name
                make(partial)
                partial.replace(path)
    return path


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _remove_partials(path: Path) -> None:
    """Remove what makers of this file have left that were killed. Its lock must be held."""
    for left_over in path.parent.glob(f".{path.name}.partial-*/*"):
        left_over.unlink()
    for left_over in path.parent.glob(f".{path.name}.partial-*"):
        left_over.rmdir()
