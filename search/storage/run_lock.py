"""The lock of a run folder, which its driver holds while it is at work.

An address has no locks. There, the driver writes a sign of life, and a second driver gives way
while it is fresh. Two drivers may both get in if they begin in the same second, or if their clocks
differ by minutes.
"""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from analysis.runs import TUNE
from spaces.files import is_alive

OWNER_FILE = f"{TUNE}/driver.json"


def run_lock(run: Path) -> FileLock:
    """The lock of a run folder, not yet acquired; the system frees it when its holder dies."""
    return FileLock(run / TUNE / "driver.lock")


def is_searched(run: Path) -> bool:
    """Whether a driver is at work in a run folder, or at the address that it was fetched from."""
    lock = run_lock(run)
    if not Path(lock.lock_file).parent.is_dir():  # acquiring would make it
        return False
    try:
        with lock.acquire(blocking=False):
            pass
    except Timeout:
        return True
    except OSError:  # the folder is read-only
        pass
    path = run / OWNER_FILE
    owner = read_owner(path.read_bytes()) if path.is_file() else None
    return owner is not None and owner.is_at_work


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The driver that writes to an address."""

    copy: str
    """A unique id of its local run folder, which has everything that it wrote."""
    host: str
    process: int
    until: float
    """It counts as at work until then, in seconds since 1970; 0 once it has ended."""

    @classmethod
    def here(cls, copy: str, *, seconds: float) -> "Owner":
        """The current process, at work for the next seconds; 0: it has ended."""
        until = time.time() + seconds if seconds else 0.0
        return cls(copy=copy, host=platform.node(), process=os.getpid(), until=until)

    @property
    def is_at_work(self) -> bool:
        """Whether the driver is at work, as far as this machine can tell."""
        if time.time() >= self.until:
            return False
        return self.host != platform.node() or is_alive(self.process)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def read_owner(content: bytes | None) -> Owner | None:
    """Read what `Owner.to_json` wrote; None for any other content."""
    try:
        owner = Owner(**json.loads(content or b"null"))
    except (TypeError, ValueError, RecursionError):
        return None
    fits = isinstance(owner.until, int | float) and isinstance(owner.process, int)
    return owner if fits else None
