"""The private folder of a local Ray: its sockets and logs, readable by this user only.

Ray's own default, /tmp/ray, may be another user's, and Ray opens it to everybody.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from spaces.errors import UserError

_PREFIX = "flopwise-ray-"
# The system allows 104 to 108 bytes for the path of a socket, of which Ray's names take 64.
_MOST_BYTES = 40
_NEW_SECONDS = 60.0


class RayNotStartedError(UserError):
    """Ray did not start on this machine."""


@contextmanager
def ray_folder() -> Iterator[Path]:
    """Make a folder for Ray's files, and remove it at the end, but not after a RayNotStartedError.

    Removes those of dead processes first. Raises UserError if no folder with a short path can be
    made.
    """
    folder = _make_folder()
    lock = FileLock(folder / "lock")
    lock.acquire()
    try:
        _remove_leftovers(folder.parent)
        inner = folder / "r"  # Ray opens its folder to everybody: this one, inside of ours
        inner.mkdir()
        yield inner
    except RayNotStartedError:
        lock.release()  # the next search removes the folder; until then, it holds Ray's logs
        raise
    except BaseException:
        _remove(folder, lock)
        raise
    else:
        _remove(folder, lock)


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()


def _make_folder() -> Path:
    problems = []
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    for base in dict.fromkeys((Path(wanted), Path("/tmp"))):  # noqa: S108
        if len(os.fsencode(base / _PREFIX)) > _MOST_BYTES - len("12345678/r"):
            problems.append(f"the path of {base} is too long for Ray's sockets")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        except OSError as error:
            problems.append(f"can't write {base}: {error.strerror}")
    raise UserError(f"{'; '.join(problems)}: set TMPDIR to a folder with a short path")


def _remove_leftovers(base: Path) -> None:
    """Remove the folders of processes that are dead. Their locks are free."""
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            status = folder.stat()
            if status.st_uid != os.getuid():
                continue
            if not (folder / "lock").exists() and time.time() - status.st_mtime < _NEW_SECONDS:
                continue  # just made, and not locked yet
            with FileLock(folder / "lock").acquire(blocking=False):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, Timeout):
            continue
