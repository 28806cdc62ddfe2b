"""The lock that the one driver of a run folder holds while it is at work.

An address has no locks: there, the driver leaves a sign of life, which a second one believes as
long as it is fresh. Two that begin in the same second, or whose clocks differ by minutes, may both
get in.
"""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from analysis.runs import TUNE

OWNER_FILE = f"{TUNE}/driver.json"


def run_lock(run: Path) -> FileLock:
    """The lock of a run folder, not yet acquired; the system frees it when its holder dies."""
    return FileLock(run / TUNE / "driver.lock")


def is_searched(run: Path) -> bool:
    """Whether a driver is at work in a run folder, or at the address that it was fetched from."""
    lock = run_lock(run)
    if not Path(lock.lock_file).parent.is_dir():  # which acquiring would make
        return False
    try:
        with lock.acquire(blocking=False):
            pass
    except Timeout:
        return True
    except OSError:  # a folder that nobody can write to
        pass
    owner = read_owner((run / OWNER_FILE).read_bytes()) if (run / OWNER_FILE).exists() else None
    return owner is not None and owner.is_at_work


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The driver that writes to an address."""

    copy: str
    """The name of its run folder, which no other one has: what it wrote, that one has too."""
    host: str
    process: int
    until: float
    """Seconds since 1970 until which it is believed to be at work; 0 once it has ended."""

    @classmethod
    def here(cls, copy: str, *, seconds: float) -> "Owner":
        """The process that asks, to be believed for so long."""
        until = time.time() + seconds if seconds else 0.0
        return cls(copy=copy, host=platform.node(), process=os.getpid(), until=until)

    @property
    def is_at_work(self) -> bool:
        """As far as it can be known from here."""
        if time.time() >= self.until:
            return False
        return self.host != platform.node() or _is_alive(self.process)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def read_owner(content: bytes | None) -> Owner | None:
    """What `Owner.to_json` wrote; None where it was something else."""
    try:
        return Owner(**json.loads(content or b"null"))
    except (TypeError, ValueError):
        return None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
