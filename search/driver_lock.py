"""The lock that the one driver of a run folder holds while it is at work."""

from pathlib import Path

from filelock import FileLock, Timeout


def driver_lock(run: Path) -> FileLock:
    """The lock of a run folder, not yet acquired; the system frees it when its holder dies."""
    return FileLock(run / "tune" / "driver.lock")


def is_searched(run: Path) -> bool:
    """Whether a driver is at work in a run folder."""
    lock = driver_lock(run)
    if not Path(lock.lock_file).parent.is_dir():  # which acquiring would make
        return False
    try:
        with lock.acquire(blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that nobody can write to
        return False
