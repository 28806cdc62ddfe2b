"""Files that are computed once on a machine and shared by all its processes."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from spaces.errors import UserError

WritePart = Callable[[BinaryIO, int], None]
"""Writes the part of that number into the open file, where it belongs."""
# How long a process that finds no part to write waits before it looks again.
_LOOK_AGAIN_SECONDS = 0.2


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
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # a folder that is read-only
            return path
        return path

    def make_once(
        self, name: str, num_bytes: int, begin: Callable[[], WritePart], *, num_parts: int = 1
    ) -> Path:
        """Return the file of that name, after it has been filled if it was missing.

        num_bytes: its size, for which room is made before anything is computed. begin: called once
        where this process writes any of its parts. Processes that want the file at the same time
        share them out: each writes what no other has begun, and what one that dies had begun is
        written by another. Raises OSError where there is no room, or the folder can't be written.
        """
        path = self._folder / name

        def make(partial: Path) -> None:
            with self._allocate(partial, num_bytes) as file:
                write_part = begin()
                parts = _Parts(partial.parent, num_parts)
                parts.open()
                parts.write_free(write_part, file)
                parts.write_left(write_part, file)
                parts.close()
                os.fsync(file.fileno())  # after a power cut, its blocks would be there, but empty

        def help_out() -> None:
            for folder in path.parent.glob(f".{name}.partial-*"):
                parts = _Parts(folder, num_parts)
                # Its maker may be done meanwhile, or have died: then the folder goes.
                with suppress(FileNotFoundError):
                    if parts.any_free():
                        write_part = begin()
                        with (folder / name).open("r+b") as file:
                            parts.write_free(write_part, file)

        return self.find(name) or _make_once(path, make, meanwhile=help_out)

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


def bounded_folder(
    name: str, variable: str, *, most: int, most_of_the_disk: float
) -> BoundedFolder:
    """A folder of the cache that may take $variable, in gigabytes.

    By default most, but at most that share of what would be free on its disk without it. Raises
    UserError where the variable is no number from 0 up.
    """
    folder = cache_folder() / name
    written = os.environ.get(variable)
    if written:
        try:
            gigabytes = float(written)
            if 0 <= gigabytes < float("inf"):
                return BoundedFolder(folder, int(gigabytes * 10**9))
        except ValueError:
            pass
        raise UserError(f"{variable}: takes a number of gigabytes from 0, not {written}")
    free = free_bytes(folder) + sum(_bytes_of(path) for path in folder.glob("[!.]*"))
    return BoundedFolder(folder, int(min(most, most_of_the_disk * free)))


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # thrown out in this moment
        return 0


class _Parts:
    """Which parts of a file are done while it is written, and who writes which of the others.

    A part is claimed by a lock in the partial file's folder, which a dying process lets go of.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number

    def open(self) -> None:
        """Let others claim parts from now on: the file has its size."""
        self._opened.touch()

    def close(self) -> None:
        """All are done: what else lies in the folder may go."""
        self._opened.unlink()

    def any_free(self) -> bool:
        """Whether a part is left that nobody has claimed."""
        return self._opened.exists() and any(map(self._is_free, range(self._number)))

    def write_free(self, write_part: WritePart, file: BinaryIO) -> None:
        """Write the parts that nobody has claimed."""
        self._write(write_part, file, wait=False)

    def write_left(self, write_part: WritePart, file: BinaryIO) -> None:
        """Wait for the parts that others have claimed, and write those of the dead."""
        self._write(write_part, file, wait=True)

    def _write(self, write_part: WritePart, file: BinaryIO, *, wait: bool) -> None:
        for part in range(self._number):
            claim = self._claim(part, wait=wait)
            if claim is None:
                continue
            with claim:
                if not self._done(part).exists():
                    write_part(file, part)
                    file.flush()
                    self._done(part).touch()

    def _is_free(self, part: int) -> bool:
        claim = self._claim(part, wait=False)
        if claim is None:
            return False
        with claim:
            return not self._done(part).exists()

    def _claim(self, part: int, *, wait: bool) -> AbstractContextManager[object] | None:
        """None: it is done, or another has it. Raises FileNotFoundError once all are done."""
        if self._done(part).exists():
            return None
        if not self._opened.exists():  # a lock would make the folder anew
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._opened)
        try:
            return FileLock(self._folder / f"{part}.lock").acquire(timeout=-1 if wait else 0)
        except Timeout:
            return None

    @property
    def _opened(self) -> Path:
        return self._folder / "opened"

    def _done(self, part: int) -> Path:
        return self._folder / f"{part}.done"


def _bytes_of_partial(folder: Path) -> int:
    """What a file that is being written takes; nothing once its writer is dead, and it is gone."""
    name = folder.name.removeprefix(".").split(".partial-")[0]
    try:
        with FileLock(_lock_of(folder.with_name(name)), timeout=0):
            _remove_partials(folder.with_name(name))
            return 0
    except Timeout:
        return sum(file.stat().st_size for file in folder.iterdir())


def _make_once(
    path: Path, make: Callable[[Path], None], *, meanwhile: Callable[[], None] | None = None
) -> Path:
    """meanwhile: called again and again while another process makes the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while not path.exists():
        try:
            lock = FileLock(_lock_of(path)).acquire(
                timeout=_LOOK_AGAIN_SECONDS if meanwhile else -1
            )
        except Timeout:
            assert meanwhile is not None
            meanwhile()
            continue
        with lock:
            if not path.exists():
                _make(path, make)
    return path


def _make(path: Path, make: Callable[[Path], None]) -> None:
    """Make a file whose lock is held."""
    _remove_partials(path)
    # Another process may put its claim into the folder while that is removed.
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.partial-", dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        file = Path(folder) / path.name
        make(file)
        file.replace(path)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _remove_partials(path: Path) -> None:
    """Remove what makers of this file have left that were killed. Its lock must be held."""
    for left_over in path.parent.glob(f".{path.name}.partial-*"):
        shutil.rmtree(left_over, ignore_errors=True)
