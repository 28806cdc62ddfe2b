"""Finds and removes the checkpoints of trials, which Ray Tune writes below tune/.

A path is tune/session-001/trial-00012/checkpoint_000003, in the run folder or at its address. If a
trial begins again in the same session, Ray adds a suffix to its folder. If a driver or a trial was
killed, its newest checkpoint may be incomplete.
"""

import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from analysis.runs import TUNE
from search.decisions.trial_record import TrialRecord
from search.storage.remote_sync import RemoteSync
from spaces.addresses import address_below

_Saved = TypeVar("_Saved", Path, str)
# A file of a checkpoint.
_SAVED = re.compile(rf"({TUNE}/session-\d+/trial-(\d+)[^/]*/checkpoint_[^/]+)/.")


class LocalCheckpoints:
    """The checkpoints in a run folder that all nodes share."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self.storage: dict[str, Any] = {"storage_path": str(run / TUNE)}
        """Ray Tune's arguments for where to write."""

    def new_session(self) -> str:
        """The name of Ray Tune's next experiment folder below tune/."""
        return _session_after(len(list((self._run / TUNE).glob("session-*"))))

    def of(self, number: int) -> list[str]:
        """A trial's checkpoints of all sessions, newest first, as its config names them."""
        return [str(path) for path in self._find(number)]

    def name(self, path: str) -> str:
        """A checkpoint's path below the run folder. path: as Ray names it."""
        return str(Path(path).resolve().relative_to(self._run.resolve()))

    def keep(self, record: TrialRecord) -> None:
        """Remove the checkpoints of a finished or paused trial, except the one that it keeps."""
        kept = self._run / record.checkpoint if record.checkpoint else None
        paused = record.paused is not None
        for path in _superseded(self._find(record.number), kept, paused=paused):
            shutil.rmtree(path, ignore_errors=True)

    def remove(self, name: str) -> None:
        shutil.rmtree(self._run / name, ignore_errors=True)

    def _find(self, number: int) -> list[Path]:
        times = []
        pattern = f"session-*/{trial_folder_name(number)}*/checkpoint_*/*"
        for path in (self._run / TUNE).glob(pattern):
            with suppress(OSError):  # it was removed just now
                name = path.relative_to(self._run).as_posix()
                times.append((name, path.stat().st_mtime_ns))
        return [self._run / name for name in _newest_first(times, number)]


class RemoteCheckpoints:
    """Like LocalCheckpoints, for a run at an address. Removes files in the background."""

    def __init__(self, sync: RemoteSync) -> None:
        self._sync = sync
        self._remote = sync.remote
        self.storage: dict[str, Any] = {
            "storage_path": f"{self._remote.path}/{TUNE}",
            "storage_filesystem": self._remote.files,
        }
        listed = self._remote.list(TUNE)
        self._num_sessions = len({Path(name).parts[1] for name in listed if "/session-" in name})
        # Other trials have nothing at the address, so no request is needed for them.
        self._begun = {int(found[2]) for name in listed if (found := _SAVED.match(name))}

    def new_session(self) -> str:
        self._num_sessions += 1
        return _session_after(self._num_sessions - 1)

    def of(self, number: int) -> list[str]:
        if number not in self._begun:
            self._begun.add(number)
            return []
        return [address_below(self._remote.address, name) for name in self._find(number)]

    def name(self, path: str) -> str:
        return str(PurePosixPath(path).relative_to(self._remote.path))

    def keep(self, record: TrialRecord) -> None:
        if record.number in self._begun:
            paused = record.paused is not None
            self._sync.later(partial(self._keep, record.number, record.checkpoint, paused=paused))

    def remove(self, name: str) -> None:
        self._sync.later(partial(self._remote.remove, name))

    def _keep(self, number: int, kept: str | None, *, paused: bool) -> None:
        for name in _superseded(self._find(number), kept, paused=paused):
            self._remote.remove(name)

    def _find(self, number: int) -> list[str]:
        listed = self._remote.list(TUNE).items()
        return _newest_first(((name, info.mtime_ns) for name, info in listed), number)


def _newest_first(files: Iterable[tuple[str, int]], number: int) -> list[str]:
    """A trial's checkpoints among (path of a file, its time), newest first.

    By their files: the time of a folder changes while it is being removed.
    """
    newest: dict[str, int] = {}
    for name, time_ns in files:
        found = _SAVED.match(name)
        if found and int(found[2]) == number:
            newest[found[1]] = max(time_ns, newest.get(found[1], 0))
    # Object stores record whole seconds, so the name decides between equal times.
    return sorted(newest, key=lambda name: (newest[name], name), reverse=True)


def _superseded(
    newest_first: Sequence[_Saved], kept: _Saved | None, *, paused: bool
) -> Sequence[_Saved]:
    """The checkpoints of a trial that nothing needs any more, if it keeps this one."""
    if not paused:
        return [one for one in newest_first if one != kept]
    # By the time they are removed, the trial may have gone on and have saved a newer one. Without
    # the one that it keeps, it goes on from any other.
    return newest_first[newest_first.index(kept) + 1 :] if kept in newest_first else []


def trial_folder_name(number: int) -> str:
    """The name of a trial's folder below a Ray Tune session."""
    return f"trial-{number:05d}"


def _session_after(sessions: int) -> str:
    return f"session-{sessions + 1:03d}"
