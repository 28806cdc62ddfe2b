"""Warm start: takes over finished trials from earlier runs, of the same data or before it grew.

They are copied into the new study's storage when it begins, so a resume does not need the earlier
runs. They are in no table of the new run and use nothing of its budget. Which of them are results
depends on the space, which may become wider: see `search.decisions.earlier_trials`.
"""

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState

from analysis.runs import STUDY
from search.decisions.trial_record import TrialRecord, read_record
from search.storage import optuna_storage
from search.storage.fetched_run import fetch_run
from search.storage.run_folder import check_machine
from search.study.study import Study
from spaces.errors import UserError
from spaces.recipe import recipe_from
from spaces.yaml_files import MOST_BYTES_OF_A_RUN, read_yaml_mapping
from trainables.costing.figures import Cost
from trainables.data.dataset import ImageData
from trainables.learning.metrics import EpochMetrics

_WARM = "warm_start"


def read_earlier_trials(study: Study, data: ImageData) -> list[TrialRecord]:
    """The complete trials of the runs that a study names, each recipe once for each data.

    Their numbers are -1, -2, ... Raises UserError if a folder is not a run, if its data is neither
    this nor what this has grown from, or if a trial lacks a cost that the study needs.
    """
    found: dict[tuple[str | None, str], TrialRecord] = {}
    for run in map(fetch_run, study.warm_start):
        earlier_data = _check_run(study, run, data)
        for record in read_complete_trials(run):
            _check_numbers(study, run, record)
            record.data = earlier_data
            found.setdefault((earlier_data, record.key), record)
    for index, record in enumerate(found.values()):
        record.number, record.checkpoint = -1 - index, None
    return list(found.values())


def read_complete_trials(run: Path) -> list[TrialRecord]:
    """The complete trials of a run, each recipe that it trained. Raises UserError on damage."""
    try:
        records = [read_record(frozen)[0] for frozen in optuna_storage.read_trials(run)]
    except UserError as error:
        raise UserError(f"{run}: {error}") from None
    complete = [one for one in records if one.state == TrialState.COMPLETE and one.reused is None]
    for record in complete:
        if record.recipe is None or not record.epochs:
            raise UserError(f"{run}: trial {record.number}: damaged in Optuna's storage")
    return complete


def store_earlier_trials(optuna_study: optuna.Study, records: Sequence[TrialRecord]) -> None:
    """Store earlier trials in the new study's storage."""
    rows = []
    for record in records:
        assert record.recipe is not None
        assert record.cost is not None
        rows.append(
            {
                "recipe": record.recipe.to_dict(),
                "cost": record.cost.to_dict(),
                "epochs": [metrics.to_dict() for metrics in record.epochs],
                "data": record.data,
            }
        )
    optuna_study.set_user_attr(_WARM, rows)


def stored_earlier_trials(optuna_study: optuna.Study) -> list[TrialRecord] | None:
    """Read what `store_earlier_trials` stored; None if it was not called."""
    rows = optuna_study.user_attrs.get(_WARM)
    if rows is None:
        return None
    records = []
    for index, row in enumerate(rows):
        epochs = [EpochMetrics.from_dict(metrics) for metrics in row["epochs"]]
        records.append(
            TrialRecord(
                number=-1 - index,
                recipe=recipe_from(row["recipe"]),
                cost=Cost.from_dict(row["cost"]),
                state=TrialState.COMPLETE,
                epochs=epochs,
                metrics=epochs[-1].metrics,
                data=row.get("data"),  # older storages have only trials of the same data
            )
        )
    return records


def _check_run(study: Study, run: Path, data: ImageData) -> str | None:
    """Check that a run is of use here; returns the digest of its data if that has grown since."""
    file = run / STUDY
    if not file.exists():
        raise UserError(f"warm_start: {run}: not a run folder (it has no {STUDY})")
    stored = read_yaml_mapping(file, most_bytes=MOST_BYTES_OF_A_RUN)
    provenance = stored.get("provenance")
    provenance = provenance if isinstance(provenance, dict) else {}
    digest, num_classes = provenance.get("data_digest"), provenance.get("num_classes")
    if digest != data.digest and digest not in data.grown_from:
        raise UserError(f"warm_start: {run}: searched other data, so its trials are no use here")
    check_machine(study, provenance, source=f"warm_start: {run}")
    if digest == data.digest:
        return None
    if num_classes != len(data.classes):
        raise UserError(
            f"warm_start: {run}: searched this data when it had {num_classes} classes; now it has"
            f" {len(data.classes)}, so its trials are no use here"
        )
    return str(digest)


def _check_numbers(study: Study, run: Path, record: TrialRecord) -> None:
    for column in study.objectives.needed_columns:
        if record.numbers().get(column) is None:
            raise UserError(
                f"warm_start: {run}: trial {record.number} has no {column}, which this study needs"
            )
