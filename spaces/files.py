"""Opens a user's files, and writes files that appear whole or not at all."""

import glob
import logging
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spaces.errors import UserError

PARTIAL = ".partial-"
_log = logging.getLogger("flopwise")
# The name of a file or folder while it is written: see `partial_name`.
_PARTIAL_NAME = re.compile(r"\..+\.partial-(?P<host>\w*)-(?P<process>\d+)[-.]?.*")


def check_file(path: Path, *, what: str = "file", most_bytes: int | None = None) -> None:
    """Raise UserError unless path is a regular file, of at most most_bytes.

    Reading a pipe, a socket or a device might never end. what: the kind of file that is wanted.
    """
    article = "an" if what[0] in "aeiou" else "a"
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: there is no such {what}") from None
    except (OSError, ValueError) as error:  # such as a name that is too long, or a null byte
        raise UserError(f"{path}: can't be read: {reason(error)}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: is a {_kind(found.st_mode)}, not {article} {what}")
    if most_bytes is not None and found.st_size > most_bytes:
        raise UserError(
            f"{path}: has {found.st_size:,} bytes, too many for {article} {what}"
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


def check_writable(path: Path) -> Path:
    """Raise UserError unless path is, or may become, a regular file. Returns it without links.

    Before work that takes long, so that a mistake is told first.
    """
    try:
        real = path.expanduser().resolve()  # a link goes on pointing to the file
        kind = _kind(real.stat().st_mode) if real.exists() and not real.is_file() else ""
        missing = not real.parent.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"can't write {path}: {reason(error)}") from None
    if kind:
        raise UserError(f"can't write {path}: it is a {kind}; name a file")
    if missing:
        raise UserError(f"can't write {path}: there is no folder {path.parent}")
    return real


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `path` when the block ends without an error.

    After an error nothing of it is left, and an older file at `path` is as it was. After a kill, a
    hidden file beside it is left; see `remove_left_over`. Raises UserError for each OSError.
    """
    real = check_writable(path)
    # The suffix stays, since some writers read the format off it.
    temporary = real.with_name(f"{partial_name(real.stem)}{real.suffix}")
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
    path = absolute(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"can't write {path}: a part of it is a file, not a folder") from None
    except OSError as error:
        raise UserError(f"can't write {path}: {reason(error)}") from None


def partial_name(name: str) -> str:
    """The name of a file or folder while this process writes it; it is hidden."""
    return f".{name}{PARTIAL}{_host()}-{os.getpid()}"


def remove_left_over(folder: Path, name: str = "") -> None:
    """Remove what killed processes of this machine left of files and folders in a folder.

    What living processes, and other machines, are writing stays. name: only left-overs of this
    file or folder. Logs a warning that names each.
    """
    with suppress(OSError):  # without rights to the folder, leave them
        for path in sorted(folder.glob(f".{glob.escape(name) if name else '*'}{PARTIAL}*")):
            found = _PARTIAL_NAME.fullmatch(path.name)
            if not found or found["host"] != _host() or is_alive(int(found["process"])):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            _log.warning("removed %s, which a killed process left", path)


def _host() -> str:
    return re.sub(r"\W", "_", platform.node())[:40]


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
