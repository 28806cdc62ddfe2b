"""Optuna's storage of a run: a journal file in the run folder.

A journal only appends. With 300 bi-objective TPE trials on 2 cores, it takes a fifth of SQLite's
time (benchmarks/overhead.py --storages). optuna-dashboard reads both.
"""

import copy
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search.decisions.trial_record import ENQUEUED, RECIPE
from spaces.errors import UserError
from spaces.files import check_file, reason, whole_file
from spaces.recipe import recipe_from
from spaces.space import SearchSpace
from spaces.yaml_files import cut

JOURNAL = "study.journal"
# Optuna's name for the parameters of an enqueued trial.
_FIXED = "fixed_params"
_SYNC_PERIOD_SECONDS = 1.0
_MOST_BYTES = 500 * 10**6  # a trial takes some kB
# Optuna checks no line of a journal, so a damaged one can end in any of these.
_DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError),
    *(OSError, ValueError, optuna.exceptions.OptunaError),
)


def create_study(folder: Path, name: str, directions: list[StudyDirection]) -> optuna.Study:
    """Make a new Optuna study in a run folder."""
    _quieten()
    return optuna.create_study(study_name=name, directions=directions, storage=_open(folder))


def open_study(folder: Path, name: str) -> optuna.Study:
    """Open the study of a run folder whose driver no longer runs.

    Raises UserError if the driver died before it made one, or if the journal is damaged.
    """
    _quieten()
    journal = folder / JOURNAL
    if journal.exists():
        check_file(journal, what="journal", most_bytes=_MOST_BYTES)
    try:
        _mend(journal)
        storage = _open(folder)
    except FileNotFoundError:
        raise _not_begun(folder) from None
    except _DAMAGE as error:
        raise _damaged(journal, error) from None
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        raise _not_begun(folder) from None
    except _DAMAGE as error:
        raise _damaged(journal, error) from None


def fit_to_space(study: optuna.Study, folder: Path, space: SearchSpace) -> optuna.Study:
    """The study of a run folder with its trials as if this space had always been searched.

    Optuna refuses new choices of a parameter that it has stored, and samplers pass over trials
    whose parameters or ranges are others. So where the space became wider, the journal is written
    anew and replaced as a whole: a driver that is killed here leaves the old or the new one.
    """
    before = study.get_trials(deepcopy=False)
    trials = [_fitted(trial, space) for trial in before]
    if all(one is other for one, other in zip(before, trials, strict=True)):
        return study
    with whole_file(folder / JOURNAL) as partial:
        storage = JournalStorage(_Journal(partial))
        fitted = optuna.create_study(
            study_name=study.study_name, directions=study.directions, storage=storage
        )
        # Private, but a study has no other way to its storage.
        attributes = study._storage.get_study_system_attrs(study._study_id)
        for name, value in attributes.items():
            storage.set_study_system_attr(fitted._study_id, name, value)
        for name, value in study.user_attrs.items():
            fitted.set_user_attr(name, value)
        fitted.add_trials(trials)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
    return open_study(folder, study.study_name)


def _fitted(trial: FrozenTrial, space: SearchSpace) -> FrozenTrial:
    """A trial with its parameters in a space: the same object if it has these already."""
    recipe = trial.user_attrs.get(RECIPE)
    if recipe is not None:
        params, distributions = space.params_and_distributions(recipe_from(recipe))
    else:
        params, distributions = trial.params, space.distributions_of(trial.params)
        if distributions != trial.distributions:  # drawn in part: it is drawn again
            params, distributions = {}, {}
    attributes = trial.system_attrs
    if recipe is None and ENQUEUED in trial.user_attrs:
        enqueued = recipe_from(trial.user_attrs[ENQUEUED])
        attributes = {**attributes, _FIXED: space.params_of(enqueued)}
    if (distributions, attributes) == (trial.distributions, trial.system_attrs):
        return trial
    fitted = copy.copy(trial)
    fitted.params, fitted.distributions, fitted.system_attrs = params, distributions, attributes
    return fitted


def read_trials(folder: Path) -> list[FrozenTrial]:
    """The trials of a run folder. Writes nothing, so the search may still run.

    Raises UserError if there is no study, or if the journal is damaged.
    """
    storage = open_to_read(folder)
    studies = storage.get_all_studies()
    # Not copied: nobody else has this storage.
    return storage.get_all_trials(studies[0]._study_id, deepcopy=False) if studies else []


def open_to_read(folder: Path) -> JournalStorage:
    """The storage of a run folder, read-only. The search may still run.

    Every attempt to change it raises RuntimeError. Raises UserError if there is no study, or if the
    journal is damaged.
    """
    _quieten()
    journal = folder / JOURNAL
    if not journal.exists():
        raise UserError(f"{journal}: there is no such file, so {folder} has no trials to read")
    check_file(journal, what="journal", most_bytes=_MOST_BYTES)
    try:
        storage = JournalStorage(_ReadOnlyJournal(str(journal)))
        for study in storage.get_all_studies():  # so that damage is found here
            storage.get_all_trials(study._study_id)
    except _DAMAGE as error:
        raise _damaged(journal, error) from None
    return storage


class _ReadOnlyJournal(JournalFileBackend):
    """A journal that can't be changed: only the driver of its search may write."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise RuntimeError("this study is read-only here; only its search may change it")


class _Journal(JournalFileBackend):
    """Optuna's journal file, which waits for the disk once a second, not after every line.

    If the process is killed, nothing is lost. If the machine loses power, the last second may be
    lost. Waiting after every line took 60 % of the driver's time (3 ms a line, 14 lines a trial).
    Optuna's lock is not used, since `run_lock` allows only one writer.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._next_sync = 0.0

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self._path.open("ab") as file:
            file.write(lines.encode())
            file.flush()
            if time.monotonic() >= self._next_sync:
                os.fsync(file.fileno())
                self._next_sync = time.monotonic() + _SYNC_PERIOD_SECONDS


def _open(folder: Path) -> JournalStorage:
    return JournalStorage(_Journal(folder / JOURNAL))


def _mend(journal: Path) -> None:
    """Remove what a driver that was killed during a write may have left.

    Its lock would block us for 30 s. Half a line would spoil the next one.
    """
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)
    content = journal.read_bytes()
    if content and not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _not_begun(folder: Path) -> UserError:
    return UserError(
        f"{folder / JOURNAL}: no study was begun here; delete {folder} and search again"
    )


def _damaged(journal: Path, error: Exception) -> UserError:
    return UserError(f"{journal}: damaged ({type(error).__name__}: {cut(reason(error), 200)})")


def _quieten() -> None:
    # Optuna logs a line for each trial. The live table shows them already.
    logging.getLogger("optuna").setLevel(logging.WARNING)
