"""The run folder, which holds everything about one search, and its only writer.

Tables show Optuna's storage and the running trials. Each is replaced as a whole, so a reader never
sees half a table. The layout is public: other tools read it.
"""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import Timeout
from optuna.trial import TrialState

from analysis.columns import PAUSED
from analysis.runs import EPOCHS, STUDY, TRIALS, TUNE, epoch_columns, read_run, trial_columns
from search.decisions.trial_record import TrialRecord, read_record
from search.storage.checkpoints import LocalCheckpoints, RemoteCheckpoints
from search.storage.code_version import git_commit, package_version
from search.storage.optuna_storage import read_trials
from search.storage.remote_sync import RemoteSync
from search.storage.run_lock import is_searched, run_lock
from search.study.study import AUTO, Resources, Study
from spaces.columns import LATENCY, is_metric
from spaces.errors import UserError
from spaces.files import remove_left_over, replace_file
from spaces.space_changes import SpaceChanges, space_changes
from spaces.space_file import parse_space
from spaces.yaml_files import MOST_BYTES_OF_A_RUN, read_yaml_mapping, write_yaml
from trainables.data.dataset import ImageData
from trainables.data.splits import SPLITS
from trainables.data.writing import new_folder
from trainables.learning.metrics import EpochMetrics
from trainables.system.machine import machine_name

_PROVENANCE = "provenance"
_RESOURCE_CHOICE = "packing"
_WARM_START = "warm_start"
_ARROW_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


class RunFolder:
    """Writes one search's results. Its lock keeps a second driver out."""

    def __init__(self, study: Study, sync: RemoteSync | None) -> None:
        self.path = path = study.folder
        self._recalls = study.objectives.recalls
        self.sync = sync
        self.widened: tuple[str, ...] = ()
        """The fields in which the space became wider since the last session."""
        self.checkpoints = RemoteCheckpoints(sync) if sync else LocalCheckpoints(path)
        self._lock = run_lock(path)

    @classmethod
    def create(cls, study: Study, data: ImageData, sync: RemoteSync | None = None) -> "RunFolder":
        """Make the folder. Raises UserError if it exists: a run is never overwritten.

        sync: for a study whose storage is an address.
        """
        path = study.folder
        check_run_folder(study, data, resume=False)
        content = {**study.resolved(), _PROVENANCE: _provenance(study, data)}
        try:
            with new_folder(path) as partial:  # a killed driver leaves no half of it
                (partial / TUNE).mkdir()
                replace_file(partial / STUDY, write_yaml(content).encode())
        except UserError as error:
            raise UserError(f"storage: {error}") from None
        folder = cls(study, sync)
        folder._acquire()
        return folder

    @classmethod
    def reopen(cls, study: Study, data: ImageData, sync: RemoteSync | None = None) -> "RunFolder":
        """Open the folder of a search, to resume it.

        Raises UserError if there is none, if another driver is at work in it, or if the data, the
        objectives or the space have changed since the search began. The space may become wider.
        """
        check_run_folder(study, data, resume=True)
        folder = cls(study, sync)
        folder._acquire()
        remove_left_over(folder.path)
        now = _provenance(study, data)
        stored = read_yaml_mapping(folder.path / STUDY, most_bytes=MOST_BYTES_OF_A_RUN)
        provenance = dict(stored[_PROVENANCE])
        folder.widened = _space_changes(study, stored).wider
        resumed = {name: now[name] for name in ("versions", "git_commit", "machine")}
        if folder.widened:
            resumed["widened"] = list(folder.widened)
            provenance["space_hash"] = now["space_hash"]
        provenance["resumed"] = [*provenance.get("resumed", []), resumed]
        provenance["overrides"] = study.overrides
        if study.resource_choice or stored["resources"] != asdict(study.trial_resources):
            provenance[_RESOURCE_CHOICE] = study.resource_choice
        content = {**study.resolved(), _PROVENANCE: provenance}
        replace_file(folder.path / STUDY, write_yaml(content).encode())
        return folder

    def note_warm_start(self, line: str) -> None:
        """Record in study.yaml, for the report, what earlier runs' trials are to this search."""
        content = read_yaml_mapping(self.path / STUDY, most_bytes=MOST_BYTES_OF_A_RUN)
        if content[_PROVENANCE].get(_WARM_START) != line:
            content[_PROVENANCE][_WARM_START] = line
            replace_file(self.path / STUDY, write_yaml(content).encode())

    def write_tables(self, records: Iterable[TrialRecord]) -> None:
        """Replace trials.parquet and epochs.parquet."""
        records = list(records)
        trials = pa.Table.from_pylist(
            [_trial_row(record) for record in records], self._schema(trial_columns)
        )
        rows = [
            {"trial": record.number, **metrics.to_dict()}
            for record in records
            for metrics in record.known_epochs
        ]
        epochs = pa.Table.from_pylist(rows, self._schema(epoch_columns))
        for name, table in ((TRIALS, trials), (EPOCHS, epochs)):
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            replace_file(self.path / name, memoryview(sink.getvalue()))

    def restore_epochs(self, records: Sequence[TrialRecord]) -> None:
        """Give trials that go on the epochs that the tables have of them.

        Optuna's storage has only those of finished trials. Nothing depends on them, so a table that
        is missing or damaged is passed over.
        """
        if not records:
            return
        with suppress(UserError):
            rows = read_run(self.path).epochs.sort_values("epoch")
            for record in records:
                record.earlier_epochs = [
                    EpochMetrics.from_dict({**row, "epoch": int(row["epoch"])})
                    for row in rows.loc[rows["trial"] == record.number]
                    .drop(columns="trial")
                    .to_dict("records")
                ]

    def _schema(self, columns: Callable[[Sequence[str]], dict[str, type]]) -> pa.Schema:
        types = columns(self._recalls)
        return pa.schema({name: _ARROW_TYPES[kind] for name, kind in types.items()}.items())

    def close(self) -> None:
        self._lock.release()

    def _acquire(self) -> None:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"{self.path}: another search is at work in this folder") from None


def check_run_folder(study: Study, data: ImageData, *, resume: bool) -> None:
    """Raise UserError if a study can't begin or resume in its folder."""
    path = study.folder
    begun = (path / STUDY).exists()
    if path.exists() and not begun:
        raise UserError(
            f"{path} exists and holds no search; delete it, or give the study another name"
        )
    if begun and not resume:
        raise UserError(f"{path} exists; continue it with --resume, or give the study another name")
    if resume and not begun:
        raise UserError(f"{study.location}: no search was begun here; leave out --resume")
    if begun:
        _check_unchanged(study, data)
        if is_searched(path):
            raise UserError(f"{path}: another search is at work in this folder")


def is_over(study: Study) -> bool:
    """Whether a resume would find every trial of the budget finished. Reads only.

    False as well where only the search itself can tell: at an address, or with another budget.
    """
    if study.address is not None or study.budget.trials is None:
        return False
    try:
        stored = read_trials(study.folder)
    except UserError:  # the resume says it
        return False
    trials = [trial for trial in stored if trial.state != TrialState.WAITING]
    begun = [trial for trial in trials if not read_record(trial)[0].refused]
    return all(trial.state.is_finished() for trial in trials) and len(begun) >= study.budget.trials


def recorded_resources(study: Study) -> Study:
    """A study with the resources that auto chose when its search began.

    Unchanged if its resources are not auto, or if nothing was chosen yet.
    """
    path = study.folder / STUDY
    if study.resources != AUTO or not path.exists():
        return study
    stored = read_yaml_mapping(path, most_bytes=MOST_BYTES_OF_A_RUN)
    choice = (stored.get(_PROVENANCE) or {}).get(_RESOURCE_CHOICE)
    return replace(study, resources=Resources(**stored["resources"]), resource_choice=choice)


def _check_unchanged(study: Study, data: ImageData) -> None:
    path = study.folder / STUDY
    stored, now = read_yaml_mapping(path, most_bytes=MOST_BYTES_OF_A_RUN), study.resolved()
    provenance = stored.get(_PROVENANCE)
    if not isinstance(provenance, dict):
        raise UserError(f"{path}: damaged, {_PROVENANCE} is missing; restore it")
    fields = _space_changes(study, stored).other
    changed = [f"space ({', '.join(fields)})"] if fields else []
    if stored.get("objectives") != now["objectives"]:
        changed.append("objectives")
    if _metric_bounds(stored) != _metric_bounds(now):
        # Samplers have learned from the trials that broke them.
        changed.append("constraints on metrics")
    if provenance.get("data_digest") != data.digest:
        changed.append("data")
    if not changed:
        check_machine(study, provenance, source=str(study.folder))
        return
    way_out = "change it back, or search under another name"
    if provenance.get("data_digest") in (data.digest, *data.grown_from):
        way_out += f", with warm_start: [{study.location}] to use these trials"
    if fields:
        way_out += "; only a space that became wider is gone on in"
    raise UserError(
        f"{study.folder}: {' and '.join(changed)} changed since this search began; {way_out}"
    )


def _space_changes(study: Study, stored: Mapping[str, Any]) -> SpaceChanges:
    """How the study's space differs from that of its run so far. stored: its study.yaml."""
    written = stored.get("space")
    if written == study.space.to_dict() or not isinstance(written, Mapping):
        return SpaceChanges(wider=(), other=() if isinstance(written, Mapping) else ("missing",))
    source = f"{study.folder / STUDY}: space"
    return space_changes(
        parse_space(written, name=study.space.name, source=source, folder=study.folder), study.space
    )


def _metric_bounds(study: Mapping[str, Any]) -> dict[str, Any]:
    bounds = study.get("constraints") or {}
    return {name: bound for name, bound in bounds.items() if is_metric(name)}


def _trial_row(record: TrialRecord) -> dict[str, Any]:
    return {
        "trial": record.number,
        "state": record.state.name if record.paused is None else PAUSED,
        **(record.recipe.to_dict() if record.recipe else {}),
        **record.numbers(),
        "epochs_trained": len(record.known_epochs),
        "seconds": record.seconds,
        "search_seconds": record.search_seconds,
        "error": record.error,
        "stop_reason": record.stop_reason if record.paused is None else record.paused,
        "checkpoint": record.checkpoint,
        "ran_on": record.ran_on,
        "cpus": record.cpus,
        "gpus": record.gpus,
        **_expected_cells(record),
    }


def _expected_cells(record: TrialRecord) -> dict[str, float]:
    if record.expected is None:
        return {}
    return {f"expected_{name}": value for name, value in asdict(record.expected).items()}


def check_machine(study: Study, provenance: Mapping[str, Any], *, source: str) -> None:
    """Raise UserError if a study needs latency and the run measured it on another machine."""
    there, here = provenance.get("machine"), machine_name()
    if LATENCY in study.objectives.cost_columns and there != here:
        raise UserError(
            f"{source}: its {LATENCY} was measured on {there}, and can't be compared on {here};"
            " continue there, or start a search under another name"
        )


def _provenance(study: Study, data: ImageData) -> dict[str, Any]:
    packages = ("flopwise", "torch", "torchvision", "ray", "optuna", "onnxruntime")
    return {
        "versions": {"python": platform.python_version()}
        | {package: package_version(package) for package in packages},
        "git_commit": git_commit(),
        "machine": machine_name(),
        "space_name": study.space.name,
        "space_hash": study.space.digest,
        "data_name": data.name,
        "data_digest": data.digest,
        "num_classes": len(data.classes),
        "num_images": {split: len(data.rows(split)) for split in SPLITS},
        "class_counts": dict(zip(data.classes, data.class_counts("validation"), strict=True)),
        "overrides": study.overrides,
        _RESOURCE_CHOICE: study.resource_choice,
    }
