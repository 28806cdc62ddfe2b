"""A run folder at an address: the driver writes one on its own disk, and this brings it there.

Only checkpoints lie at the address from the start, since Ray's workers write and read them on every
node. The rest follows in a thread of its own, which takes a tenth of the time at most; object
stores can't append, so the journal goes whole.
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
# A driver that has shown no sign of life for this long beyond its due is taken for dead.
_PATIENCE_SECONDS = 60.0
# So long without reaching the address, and the search ends: a head that is lost loses as much.
_GIVE_UP_SECONDS = 120.0
_CURVES = "tensorboard/"


@contextmanager
def synced_run(study: Study, *, resume: bool) -> Iterator["RemoteSync | None"]:
    """Have a study's address to oneself, and its run folder here as it is there.

    None where the study's storage is a folder. Raises UserError where the address can't be written,
    where another driver is at work on it, and where there is a run that is not to be resumed.
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
    """Brings what changed in a run folder to an address."""

    def __init__(self, address: str, folder: Path) -> None:
        self.remote = RemoteFolder(address)
        self._folder = folder
        self._copy = ""
        self._brought: dict[str, tuple[int, int]] = {}
        self._later: deque[Callable[[], None]] = deque()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mirror")
        self._job: Future[None] | None = None
        self._pause = _PERIOD_SECONDS
        self._due = self._reached = time.monotonic()

    def begin(self, *, resume: bool) -> None:
        """Claim the address, and make the run folder what it is there, unless it is newer."""
        owner = read_owner(self.remote.read(OWNER_FILE))
        if owner is not None and owner.is_at_work:
            raise UserError(
                f"{self.remote.address}: another search is at work there, process {owner.process}"
                f" on {owner.host}"
            )
        listed = self.remote.list()
        if STUDY in listed and not resume:
            raise UserError(
                f"{self.remote.address} exists; go on with it by --resume, or give the study"
                " another name"
            )
        if is_searched(self._folder):
            raise UserError(f"{self._folder}: another search is at work in this folder")
        name = self._folder.with_name(f".{self._folder.name}.copy")
        self._copy = name.read_text(encoding="utf-8") if name.exists() else ""
        same = owner.copy == self._copy if owner is not None else STUDY not in listed
        if resume and same and (self._folder / JOURNAL).exists():
            self._claim()  # what the last driver here did not bring any more is here
        else:
            self._copy = uuid.uuid4().hex
            self._claim()
            self._fetch(listed)
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_text(self._copy, encoding="utf-8")
        for path in self._folder.glob(f"{_CURVES}*/*"):  # written once, unlike the others
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
        """See to it that what changed is brought, now or soon; returns at once.

        Raises UserError where the address could not be reached for minutes.
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
        """Bring everything, and wait for it. Raises BrokenOffError where it does not get there."""
        if self._job is not None:
            with suppress(UserError):
                self._job.result()
        try:
            self._bring()
        except UserError as error:
            raise self._lost(error) from None

    def later(self, action: Callable[[], None]) -> None:
        """Do something to the address once all that is known now is there.

        So what is removed there was first taken out of the journal there.
        """
        self._later.append(action)

    def end(self) -> None:
        """Leave the address to others."""
        self._pool.shutdown()
        with suppress(UserError):
            if (self._folder / STUDY).exists():
                self._claim(seconds=0)
            else:  # it was refused before it began
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
            # Two pauses, should the next time take longer.
            self._claim(seconds=_PATIENCE_SECONDS + 2 * self._pause)
            self._reached = time.monotonic()
        finally:
            now = time.monotonic()
            self._pause = max(_PERIOD_SECONDS, (now - started) * (1 - _MAX_SHARE) / _MAX_SHARE)
            self._due = now + self._pause

    def _changed(self) -> list[tuple[str, Path]]:
        """Files that are not yet at the address as they are here, the journal first."""
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
        return BrokenOffError(f"{error}; everything but checkpoints is in {self._folder} too")


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
