"""Opens a user's files, and writes files that appear whole or not at all."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spaces.errors import UserError

# A file's name while it is written: the final name, the process that writes it, the suffix.
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.partial-(?P<process>\d+)(\.\w+)?")
# As flopwise wrote it before.
_OLD_TEMPORARY = re.compile(r"\.(?P<name>.+\.(parquet|yaml))\.(?P<process>\d+)")


def check_file(path: Path, *, what: str = "file", most_bytes: int | None = None) -> None:
    """Raise UserError unless path is a regular file, of at most most_bytes.

    Reading a pipe, a socket or a device might never end. what: the kind of file that is wanted.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: there is no such {what}") from None
    except (OSError, ValueError) as error:  # such as a name that is too long, or a null byte
        raise UserError(f"{path}: can't be read: {reason(error)}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: is a {_kind(found.st_mode)}, not a {what}")
    if most_bytes is not None and found.st_size > most_bytes:
        raise UserError(
            f"{path}: has {found.st_size:,} bytes, too many for a {what}"
            f" (at most {most_bytes:,} are read)"
        )


def read_file(path: Path, *, what: str = "file", most_bytes: int | None = None) -> bytes:
    """The content of a regular file. Raises UserError if it can't be read; see `check_file`."""
    check_file(path, what=what, most_bytes=most_bytes)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read: {reason(error)}") from None


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a whole file in one step, so that nobody sees half of it. Raises UserError."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `path` when the block ends without an error.

    After an error nothing of it is left, and an older file at `path` is as it was. After a kill, a
    hidden file beside it is left; see `remove_left_over`. Raises UserError for each OSError.
    """
    try:
        real = path.expanduser().resolve()  # a link goes on pointing to the file
        kind = _kind(real.stat().st_mode) if real.exists() and not real.is_file() else ""
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"can't write {path}: {reason(error)}") from None
    if kind:
        raise UserError(f"can't write {path}: it is a {kind}; name a file")
    # The suffix stays, since some writers read the format off it.
    temporary = real.with_name(f".{real.stem}.partial-{os.getpid()}{real.suffix}")
    try:
        yield temporary
        temporary.replace(real)
    except OSError as error:
        raise UserError(f"can't write {path}: {reason(error)}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def absolute(path: Path) -> Path:
    """An absolute path, with ~ expanded. Raises UserError if the system refuses it."""
    try:
        return path.expanduser().absolute()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: can't be a path: {reason(error)}") from None


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises UserError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't write {path}: {reason(error)}") from None


def remove_left_over(folder: Path) -> list[Path]:
    """Remove what killed processes left of files that they were writing to a folder.

    Files of processes that are alive stay. Returns the paths that were removed.
    """
    removed = []
    with suppress(OSError):  # without rights to the folder, leave them
        for path in sorted(folder.iterdir()):
            found = _TEMPORARY.fullmatch(path.name) or _OLD_TEMPORARY.fullmatch(path.name)
            if found and path.is_file() and not is_alive(int(found["process"])):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def is_alive(process: int) -> bool:
    """Whether a process of this machine is alive."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's process
        return True
    return True


def reason(error: Exception) -> str:
    """An error's reason in one line, without the path."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or " ".join(str(error).split()) or type(error).__name__


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "named pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
