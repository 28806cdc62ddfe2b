"""Copies a run folder from the driver's disk to an address.

Ray's workers on every node write and read checkpoints at the address itself. A thread copies the
other files, and takes a tenth of the time at most. Object stores can't append, so it copies the
whole journal each time.
"""

import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from analysis.runs import STUDY, TUNE
from search.errors import BrokenOffError
from search.storage.optuna_storage import JOURNAL
from search.storage.run_lock import OWNER_FILE, Owner, is_searched, read_owner
from search.study.remote_folder import RemoteFolder
from search.study.study import Study
from spaces.errors import UserError

_PERIOD_SECONDS = 5.0
_MAX_SHARE = 0.1
# If a driver's sign of life is overdue by this much, the driver counts as dead.
_PATIENCE_SECONDS = 60.0
# If the address can't be reached for this long, end the search. If the head is lost, results since
# the last copy are lost too.
_GIVE_UP_SECONDS = 120.0
_CURVES = "tensorboard/"


@contextmanager
def synced_run(study: Study, *, resume: bool) -> Iterator["RemoteSync | None"]:
    """Claim a study's address, and make the local run folder equal to the one there.

    Yields None if the study's storage is a folder. Raises UserError if the address can't be
    written, if another driver is at work on it, or if it holds a run and `resume` is False.
    """
    if study.address is None:
        yield None
        return
    sync = RemoteSync(study.address, study.folder)
    sync.begin(resume=resume)
    try:
        yield sync
    finally:
        sync.end()


class RemoteSync:
    """Copies the changed files of a run folder to an address."""

    def __init__(self, address: str, folder: Path) -> None:
        self.remote = RemoteFolder(address)
        self._folder = folder
        self._copy = ""
        self._brought: dict[str, tuple[int, int]] = {}
        self._later: deque[Callable[[], None]] = deque()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sync")
        self._job: Future[None] | None = None
        self._pause = _PERIOD_SECONDS
        self._due = self._reached = time.monotonic()

    def begin(self, *, resume: bool) -> None:
        """Claim the address, and fetch its run folder unless the local one is newer."""
        owner = read_owner(self.remote.read(OWNER_FILE))
        if owner is not None and owner.is_at_work:
            raise UserError(
                f"{self.remote.address}: another search is at work there, process {owner.process}"
                f" on {owner.host}"
            )
        listed = self.remote.list()
        if STUDY in listed and not resume:
            raise UserError(
                f"{self.remote.address} exists; continue it with --resume, or give the study"
                " another name"
            )
        if is_searched(self._folder):
            raise UserError(f"{self._folder}: another search is at work in this folder")
        name = self._folder.with_name(f".{self._folder.name}.copy")
        self._copy = name.read_text(encoding="utf-8") if name.exists() else ""
        same = owner.copy == self._copy if owner is not None else STUDY not in listed
        if resume and same and (self._folder / JOURNAL).exists():
            self._claim()  # the local folder has all that the last driver did not copy
        else:
            self._copy = uuid.uuid4().hex
            self._claim()
            self._fetch(listed)
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_text(self._copy, encoding="utf-8")
        for path in self._folder.glob(f"{_CURVES}*/*"):  # other files change
            file = path.relative_to(self._folder).as_posix()
            if file in listed and listed[file].size == path.stat().st_size:
                self._brought[file] = _state(path)

    def _fetch(self, listed: Iterable[str]) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        if STUDY in listed:
            self.remote.fetch(
                [name for name in listed if not name.startswith(f"{TUNE}/")], self._folder
            )
            (self._folder / TUNE).mkdir(parents=True, exist_ok=True)

    def bring(self) -> None:
        """Start to copy what changed, if that is due. Returns at once.

        Raises BrokenOffError if the address could not be reached for minutes.
        """
        if self._job is not None and not self._job.done():
            return
        error = self._job.exception() if self._job is not None else None
        if error is not None and not isinstance(error, UserError):
            raise error
        if error is not None and time.monotonic() - self._reached > _GIVE_UP_SECONDS:
            raise self._lost(error)
        if time.monotonic() >= self._due:
            self._job = self._pool.submit(self._bring)

    def bring_all(self) -> None:
        """Copy everything that changed, and wait. Raises BrokenOffError if that fails."""
        if self._job is not None:
            with suppress(UserError):
                self._job.result()
        try:
            self._bring()
        except UserError as error:
            raise self._lost(error) from None

    def later(self, action: Callable[[], None]) -> None:
        """Change the address after the next copy.

        So the journal at the address stops naming a checkpoint before it is removed.
        """
        self._later.append(action)

    def end(self) -> None:
        """Release the address for other searches."""
        self._pool.shutdown()
        with suppress(UserError):
            if (self._folder / STUDY).exists():
                self._claim(seconds=0)
            else:  # the search was refused before it began
                self.remote.remove(OWNER_FILE)

    def _claim(self, seconds: float = _PATIENCE_SECONDS + _PERIOD_SECONDS) -> None:
        self.remote.write(OWNER_FILE, Owner.here(self._copy, seconds=seconds).to_json())

    def _bring(self) -> None:
        started = time.monotonic()
        num_later = len(self._later)
        try:
            for name, path in self._changed():
                state = _state(path)
                content = path.read_bytes()
                if name == JOURNAL:  # a line may be half written
                    content = content[: content.rfind(b"\n") + 1]
                self.remote.write(name, content)
                self._brought[name] = state
            for _ in range(num_later):
                self._later.popleft()()
            # Two pauses, since the next copy may take longer.
            self._claim(seconds=_PATIENCE_SECONDS + 2 * self._pause)
            self._reached = time.monotonic()
        finally:
            now = time.monotonic()
            self._pause = max(_PERIOD_SECONDS, (now - started) * (1 - _MAX_SHARE) / _MAX_SHARE)
            self._due = now + self._pause

    def _changed(self) -> list[tuple[str, Path]]:
        """Files that differ from those at the address, the journal first."""
        found = {}
        for path in self._folder.rglob("*"):
            name = path.relative_to(self._folder).as_posix()
            hidden = any(part.startswith(".") for part in Path(name).parts)
            if hidden or name.startswith(f"{TUNE}/") or not path.is_file():
                continue
            if self._brought.get(name) != _state(path):
                found[name] = path
        return sorted(found.items(), key=lambda item: item[0] != JOURNAL)

    def _lost(self, error: BaseException) -> BrokenOffError:
        return BrokenOffError(f"{error}; {self._folder} holds everything except checkpoints")


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
