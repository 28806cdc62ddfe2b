"""Fetches a run at an address into this machine's cache, for the commands that read runs.

Only changed files are fetched again, and checkpoints only when they are needed. The driver writes
to a different folder, so readers never disturb it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from pyarrow.fs import FileInfo

from analysis.runs import EPOCHS, STUDY, TRIALS, TUNE
from search.storage.run_lock import OWNER_FILE
from search.study.remote_folder import RemoteFolder, cached_run
from spaces.addresses import check_address, is_address
from spaces.errors import UserError
from spaces.files import absolute, make_folder, remove_left_over

_SOURCE = ".address"
# Always fetched: they are small and change all the time.
_ALWAYS = (STUDY, TRIALS, EPOCHS, OWNER_FILE)
# Object stores record times in whole seconds.
_COARSE_NS = 2 * 10**9


def fetch_run(run: str | Path) -> Path:
    """The folder of a run to read. For an address, it is an up-to-date copy.

    Raises UserError if there is no run at the address, or it can't be read.
    """
    if not is_address(str(run)):
        if not str(run):
            raise UserError("'' can't be a run folder: it is empty")
        path = absolute(Path(run)) if str(run).startswith("~") else Path(run)
        for folder in (path, path / "export"):
            remove_left_over(folder)
        return path
    address = str(run)
    check_address(address)
    folder = cached_run("read", address)
    remote = RemoteFolder(address)
    listed = remote.list()
    if STUDY not in listed:
        runs = sorted({name.split("/")[0] for name in listed if name.endswith(f"/{STUDY}")})
        holds = f" holds runs, name one: {', '.join(runs)}" if runs else ": there is no run"
        raise UserError(f"{address}{holds}")
    wanted = []
    for name, info in listed.items():
        path = folder / name
        if name not in _ALWAYS:
            # Checkpoints and curves are many files, and most commands don't need them.
            if f"{TUNE}/" in name or name.startswith("tensorboard/"):
                continue
            if path.exists() and _is_like(path, info):
                continue
        wanted.append(name)
    make_folder(folder)
    with FileLock(folder / ".fetch.lock"):
        remote.fetch(wanted, folder)
        (folder / _SOURCE).write_text(address, encoding="utf-8")
    return folder


@contextmanager
def adding_to(run: str, part: str) -> Iterator[Path]:
    """`fetch_run` for a command that adds files: copies new ones below `part` to the address.

    Checkpoints are not copied. Raises UserError if the address can't be written.
    """
    folder = fetch_run(run)
    try:
        yield folder
    finally:
        if is_address(run):
            _put_back(RemoteFolder(run), folder, part)


def _put_back(remote: RemoteFolder, folder: Path, part: str) -> None:
    there = remote.list(part)
    try:
        for path in (folder / part).rglob("*"):
            name = path.relative_to(folder).as_posix()
            hidden = any(piece.startswith(".") for piece in Path(name).parts)
            if hidden or f"/{TUNE}/" in name or not path.is_file():
                continue
            if name not in there or path.stat().st_mtime_ns > there[name].mtime_ns - _COARSE_NS:
                remote.write(name, path.read_bytes())
    except UserError as error:
        raise UserError(f"{error}; the files are in {folder / part}") from None


def near_checkpoint(run: Path, name: str) -> Path:
    """The folder of a checkpoint, fetched if its run was. It may no longer exist."""
    path, index = run / name, place_of(run)
    if not path.is_dir() and is_address(index):
        remote = RemoteFolder(index)
        remote.fetch(remote.list(name), run)
    return path


def place_of(run: Path) -> str:
    """The address that a run folder was fetched from, or else its path."""
    source = run / _SOURCE
    return source.read_text(encoding="utf-8") if source.is_file() else str(run.resolve())


def _is_like(path: Path, info: FileInfo) -> bool:
    stat = path.stat()
    return stat.st_size == info.size and stat.st_mtime_ns > info.mtime_ns + _COARSE_NS
