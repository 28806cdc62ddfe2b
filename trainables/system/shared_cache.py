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
"""Writes the part of that number into its position in the open file."""
# A process that finds no part to write waits this long before it looks again.
_LOOK_AGAIN_SECONDS = 0.2


def cache_folder() -> Path:
    """Return $FLOPWISE_CACHE, or ~/.cache/flopwise. Its content can be deleted at any time."""
    written = os.environ.get("FLOPWISE_CACHE") or "~/.cache/flopwise"
    try:
        return Path(written).expanduser()
    except RuntimeError as error:  # ~ of an unknown user
        raise UserError(f"FLOPWISE_CACHE: {written}: {error}; set it to a folder") from None


def make_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return path, a file in the cache. If it is missing, `make(partial)` writes it first.

    One process makes it and others wait. It appears by a rename. If its maker is killed, the next
    one removes the partial file. Raises UserError if it can't be written.
    """
    try:
        return _make_once(path, make)
    except OSError as error:
        raise UserError(
            f"{path.parent}: can't be written: {error.strerror or error};"
            " set FLOPWISE_CACHE to a folder with free space"
        ) from None


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk where a folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


class BoundedFolder:
    """Cache files whose total size stays below a bound. The least recently used are removed.

    A process that has mapped a removed file can go on using it; the system frees it afterwards.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self.limit_bytes = limit_bytes

    def find(self, name: str) -> Path | None:
        """The file of that name, marked as just used; None if there is none."""
        path = self._folder / name
        try:
            os.utime(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # the folder is read-only
            return path
        return path

    def make_once(
        self, name: str, num_bytes: int, begin: Callable[[], WritePart], *, num_parts: int = 1
    ) -> Path:
        """Return the file of that name. If it is missing, writes it first.

        num_bytes: its size; space is made before anything is computed. begin: called once if this
        process writes any of the parts. Processes that want the file at the same time share the
        parts: each writes those that no other has begun. If a process dies, another one writes its
        part. Raises OSError if there is no space, or if the folder can't be written.
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
                os.fsync(file.fileno())  # otherwise a power cut could leave empty blocks

        def help_out() -> None:
            for folder in path.parent.glob(f".{name}.partial-*"):
                parts = _Parts(folder, num_parts)
                # Its maker may finish or die meanwhile. Then the folder is removed.
                with suppress(FileNotFoundError):
                    if parts.any_free():
                        write_part = begin()
                        with (folder / name).open("r+b") as file:
                            parts.write_free(write_part, file)

        return self.find(name) or _make_once(path, make, meanwhile=help_out)

    def _allocate(self, partial: Path, num_bytes: int) -> BinaryIO:
        # One process at a time, so that each sees the space that the others have taken.
        with FileLock(self._folder / ".room.lock"):
            self._make_room(num_bytes, besides=partial.parent)
            file = partial.open("xb")
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, num_bytes)
            except OSError as error:
                # Some file systems can't reserve space. There, writing may fail later.
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
            raise OSError(errno.ENOSPC, f"more than the limit of {self.limit_bytes:,} bytes")
        for _, size, path in sorted(files):
            if held + num_bytes <= self.limit_bytes:
                break
            path.unlink(missing_ok=True)
            held -= size


def bounded_folder(
    name: str, variable: str, *, most: int, most_of_the_disk: float
) -> BoundedFolder:
    """A folder of the cache that may take as many gigabytes as the environment's `variable` says.

    By default, it may take `most` bytes, or the share `most_of_the_disk` of the disk space that
    would be free without it, if that is less. Raises UserError if the variable is not a number from
    0 up.
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
        raise UserError(f"{variable}: set it to a number of gigabytes from 0 up, not {written}")
    free = free_bytes(folder) + sum(_bytes_of(path) for path in folder.glob("[!.]*"))
    return BoundedFolder(folder, int(min(most, most_of_the_disk * free)))


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # just removed
        return 0


class _Parts:
    """Tracks which parts of a file are written, and lets processes claim the others.

    A lock in the partial file's folder claims a part. If the process dies, the lock is freed.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number

    def open(self) -> None:
        """Let others claim parts from now on, since the file has its full size."""
        self._opened.touch()

    def close(self) -> None:
        """End claims after all parts are written. The folder may then be removed."""
        self._opened.unlink()

    def any_free(self) -> bool:
        """Whether there is a part that nobody has claimed."""
        return self._opened.exists() and any(map(self._is_free, range(self._number)))

    def write_free(self, write_part: WritePart, file: BinaryIO) -> None:
        """Write the parts that nobody has claimed."""
        self._write(write_part, file, wait=False)

    def write_left(self, write_part: WritePart, file: BinaryIO) -> None:
        """Wait for the parts that others have claimed, and write those of dead processes."""
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
        """Claim a part; None if it is done or taken. Raises FileNotFoundError once all are done."""
        if self._done(part).exists():
            return None
        if not self._opened.exists():  # a lock would make the folder again
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
    """Bytes of a file that is being written. If its writer is dead, removes it and returns 0."""
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
    """As make_once. meanwhile: called repeatedly while another process makes the file."""
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
    # Another process may put a claim into the folder while it is removed.
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.partial-", dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        file = Path(folder) / path.name
        make(file)
        file.replace(path)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _remove_partials(path: Path) -> None:
    """Remove what killed makers of this file have left. Its lock must be held."""
    for left_over in path.parent.glob(f".{path.name}.partial-*"):
        shutil.rmtree(left_over, ignore_errors=True)
