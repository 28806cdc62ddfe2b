"""Optuna's storage of a run: a journal file in the run folder.

A journal appends; measured against SQLite with 300 bi-objective TPE trials on 2 cores it takes a
fifth of the time (benchmarks/overhead.py --storages). optuna-dashboard reads either.
"""

import logging
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from spaces.errors import UserError

JOURNAL = "study.journal"


def create_study(folder: Path, name: str, directions: list[StudyDirection]) -> optuna.Study:
    """Make a new Optuna study in a run folder."""
    _quieten()
    return optuna.create_study(study_name=name, directions=directions, storage=_open(folder))


def load_study(folder: Path, name: str) -> optuna.Study:
    """Open the study of a run folder whose driver is not running any more.

    Raises UserError where the driver died before there was one, or the journal is damaged.
    """
    _quieten()
    journal = folder / JOURNAL
    try:
        _mend(journal)
        return optuna.load_study(study_name=name, storage=_open(folder))
    except (FileNotFoundError, KeyError):
        raise UserError(
            f"{journal}: no study was begun here; delete {folder} and search again"
        ) from None
    except ValueError as error:
        raise UserError(f"{journal}: damaged ({error})") from None


def read_trials(folder: Path) -> list[FrozenTrial]:
    """The trials of any run folder, also of one that is being searched: nothing is written.

    Raises UserError where there is no study, or the journal is damaged.
    """
    _quieten()
    journal = folder / JOURNAL
    if not journal.exists():
        raise UserError(f"{journal}: there is no such file, so {folder} has no trials to read")
    storage = _open(folder)
    try:
        studies = storage.get_all_studies()
        return storage.get_all_trials(studies[0]._study_id) if studies else []
    except ValueError as error:
        raise UserError(f"{journal}: damaged ({error})") from None


def _open(folder: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))


def _mend(journal: Path) -> None:
    """Take away what a driver that was killed while it wrote may have left.

    Its lock would hold us up for 30 s; half a line would spoil the line that is appended next.
    """
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    content = journal.read_bytes()
    if content and not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _quieten() -> None:
    # Optuna logs a line a trial; ours go into the live table.
    logging.getLogger("optuna").setLevel(logging.WARNING)
