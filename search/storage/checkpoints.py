"""Finds and removes the checkpoints of trials, which Ray Tune writes below tune/.

A path is tune/session-001/trial-00012/checkpoint_000003, in the run folder or at its address. If a
trial begins again in the same session, Ray adds a suffix to its folder. If a driver or a trial was
killed, its newest checkpoint may be incomplete.
"""

import re
import shutil
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from analysis.runs import TUNE
from search.decisions.trial_record import TrialRecord
from search.storage.remote_sync import RemoteSync
from spaces.addresses import address_below

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
        """Remove a finished trial's checkpoints of all sessions, except the one that it keeps."""
        kept = self._run / record.checkpoint if record.checkpoint else None
        for path in self._find(record.number):
            if path != kept:
                shutil.rmtree(path, ignore_errors=True)

    def remove(self, name: str) -> None:
        shutil.rmtree(self._run / name, ignore_errors=True)

    def _find(self, number: int) -> list[Path]:
        pattern = f"session-*/{trial_folder_name(number)}*/checkpoint_*"
        found = [path for path in (self._run / TUNE).glob(pattern) if any(path.iterdir())]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


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
            self._sync.later(partial(self._keep, record.number, record.checkpoint))

    def remove(self, name: str) -> None:
        self._sync.later(partial(self._remote.remove, name))

    def _keep(self, number: int, kept: str | None) -> None:
        for name in self._find(number):
            if name != kept:
                self._remote.remove(name)

    def _find(self, number: int) -> list[str]:
        newest = {}
        for name, info in self._remote.list(TUNE).items():
            found = _SAVED.match(name)
            if found and int(found[2]) == number:
                newest[found[1]] = max(info.mtime_ns, newest.get(found[1], 0))
        # Object stores record whole seconds, so the name decides between equal times.
        return sorted(newest, key=lambda name: (newest[name], name), reverse=True)


def trial_folder_name(number: int) -> str:
    """The name of a trial's folder below a Ray Tune session."""
    return f"trial-{number:05d}"


def _session_after(sessions: int) -> str:
    return f"session-{sessions + 1:03d}"
