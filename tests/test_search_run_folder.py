import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState

from analysis.runs import EPOCHS, EXPECTED_COLUMNS, STUDY, TRIALS, TUNE, read_run, run_recipe
from search.decisions.trial_record import Expected, TrialRecord
from search.storage import run_folder as run_folder_module
from search.storage.run_folder import RunFolder
from search.study.study import Study, load_study
from spaces.errors import UserError
from spaces.recipe import RECIPE_FIELDS, Recipe
from spaces.yaml_files import read_yaml_mapping, write_yaml
from trainables.costing.figures import Cost
from trainables.data.dataset import ImageData
from trainables.data.demo_images import make_demo
from trainables.learning.metrics import EpochMetrics

COST = Cost(
    figures={
        "gmacs": 0.1,
        "gflops": 0.2,
        "effective_gflops": 0.2,
        "gbops": 102.4,
        "params": 857_239,
        "size_mb": 3.4,
    }
)
METRICS = EpochMetrics(
    epoch=1,
    train_loss=2.0,
    train_accuracy=0.2,
    val_loss=1.5,
    accuracy=0.5,
    learning_rate=1e-3,
    seconds=1.25,
)
# The design's words: a column per recipe field, and these around them.
TRIAL_TYPES = {
    "trial": "int64",
    "state": "string",
    **{"model": "string", "weights": "string", "input_size": "int64", "width": "double"},
    **{"batch_norm": "bool", "residual": "bool", "unfrozen": "int64", "augment": "string"},
    **{
        "qat": "bool",
        "float_epochs": "int64",
        "batch_size": "int64",
        "optimizer": "string",
        "learning_rate": "double",
    },
    **{"weight_decay": "double", "label_smoothing": "double", "class_weighting": "string"},
    **{"oversampling": "bool"},
    **{"scheduler": "string", "epochs": "int64", "seed": "int64"},
    **{"accuracy": "double", "balanced_accuracy": "double", "macro_f1": "double"},
    **{"worst_class_recall": "double", "top5_accuracy": "double"},
    **{"gmacs": "double", "gflops": "double", "effective_gflops": "double"},
    **{"gbops": "double", "params": "int64", "size_mb": "double", "latency_ms": "double"},
    **{"epochs_trained": "int64", "seconds": "double", "search_seconds": "double"},
    **{"error": "string", "checkpoint": "string"},
    **{"ran_on": "string", "cpus": "int64", "gpus": "double", "stop_reason": "string"},
    **{"expected_low": "double", "expected_accuracy": "double", "expected_high": "double"},
    **{"expected_gain": "double", "expected_seconds": "double"},
}
EPOCH_TYPES = {
    **{"trial": "int64", "epoch": "int64", "train_loss": "double", "train_accuracy": "double"},
    **{"val_loss": "double", "accuracy": "double", "balanced_accuracy": "double"},
    **{"macro_f1": "double", "worst_class_recall": "double", "top5_accuracy": "double"},
    **{"learning_rate": "double", "seconds": "double"},
}


def study_in(folder: Path, data: ImageData, **changes: Any) -> Study:
    content = {"name": "tiny", "data": {"path": str(data.path)}, "space": "quick", **changes}
    path = folder / "study.yaml"
    path.write_text(write_yaml(content), encoding="utf-8")
    return load_study(path)


def types_of(path: Path) -> dict[str, str]:
    return {field.name: str(field.type) for field in pq.read_schema(path)}


def complete(number: int, recipe: Recipe | None = None) -> TrialRecord:
    return TrialRecord(
        number=number,
        recipe=recipe or Recipe(),
        cost=COST,
        state=TrialState.COMPLETE,
        epochs=[METRICS],
        metrics={"accuracy": 0.5},
        checkpoint="tune/session-001/trial-00000/checkpoint_000000",
    )


@pytest.mark.parametrize(
    "records",
    [
        [],
        [TrialRecord(number=0, recipe=Recipe())],
        [complete(0), TrialRecord(number=1, recipe=Recipe(unfrozen=2))],
    ],
    ids=["no trial", "all null", "some null"],
)
def test_the_tables_have_the_columns_and_types_of_the_design(
    records: list[TrialRecord], tmp_path: Path, demo_data: ImageData
):
    folder = RunFolder.create(study_in(tmp_path, demo_data), demo_data)
    folder.write_tables(records)
    assert types_of(folder.path / TRIALS) == TRIAL_TYPES
    assert list(TRIAL_TYPES)[2 : 2 + len(RECIPE_FIELDS)] == list(RECIPE_FIELDS)
    assert types_of(folder.path / EPOCHS) == EPOCH_TYPES
    assert len(read_run(folder.path).trials) == len(records)
    folder.close()


def test_what_is_written_is_what_analysis_reads(tmp_path: Path, demo_data: ImageData):
    folder = RunFolder.create(study_in(tmp_path, demo_data), demo_data)
    recipes = [Recipe(), Recipe(model="mobilenet_v2", unfrozen=0, learning_rate=1e-5)]
    failed = TrialRecord(
        number=1, recipe=recipes[1], cost=COST, state=TrialState.FAIL, error="loss is NaN"
    )
    foretold = Expected(low=0.4, accuracy=0.45, high=0.5, gain=0.01, seconds=1.5)
    folder.write_tables([replace(complete(0), expected=foretold), failed])
    run = read_run(folder.path)
    assert run.trials[list(EXPECTED_COLUMNS)].iloc[0].tolist() == list(asdict(foretold).values())
    assert run.trials[list(EXPECTED_COLUMNS)].iloc[1].isna().all()
    assert [run_recipe(row) for _, row in run.trials.iterrows()] == recipes
    assert run.counts() == {"COMPLETE": 1, "PRUNED": 0, "FAIL": 1, "RUNNING": 0, "PAUSED": 0}
    row = run.front().iloc[0]
    assert (row["trial"], row["accuracy"], row["epochs_trained"], row["seconds"]) == (
        0,
        0.5,
        1,
        1.25,
    )
    assert run.trials["error"].iloc[1] == "loss is NaN"
    assert run.epochs.to_dict("records")[0]["val_loss"] == 1.5
    folder.close()


def test_tables_are_replaced_whole(tmp_path: Path, demo_data: ImageData):
    folder = RunFolder.create(study_in(tmp_path, demo_data), demo_data)
    folder.write_tables([complete(0)])
    with (folder.path / TRIALS).open("rb") as reader:
        folder.write_tables([complete(0), complete(1)])
        assert pq.read_table(pa.PythonFile(reader)).num_rows == 1
    assert len(pd.read_parquet(folder.path / TRIALS)) == 2
    assert {path.name for path in folder.path.iterdir()} == {*(STUDY, TRIALS, EPOCHS, TUNE)}
    folder.close()


def test_study_yaml_tells_what_was_run_and_with_what(tmp_path: Path, demo_data: ImageData):
    study = study_in(tmp_path, demo_data, seed=3, space={"epochs": [1, 2]})
    folder = RunFolder.create(study, demo_data)
    content = read_yaml_mapping(folder.path / STUDY)
    provenance = content.pop("provenance")
    assert provenance["data_digest"] == demo_data.digest
    assert provenance["space_hash"] == study.space.digest
    assert provenance["num_classes"] == 3
    assert {"python", "torch", "optuna", "ray", "flopwise"} <= set(provenance["versions"])
    path = tmp_path / "again.yaml"
    path.write_text(write_yaml(content), encoding="utf-8")
    assert load_study(path).resolved() == study.resolved()
    folder.close()


@pytest.mark.parametrize("holds", [[], ["notes.txt"], ["tune"]])
def test_a_folder_that_exists_is_never_written_into(
    holds: list[str], tmp_path: Path, demo_data: ImageData
):
    study = study_in(tmp_path, demo_data)
    study.folder.mkdir(parents=True)
    for name in holds:
        (study.folder / name).mkdir()
    with pytest.raises(UserError, match="exists and holds no search; delete it, or give the"):
        RunFolder.create(study, demo_data)
    assert [path.name for path in study.folder.iterdir()] == holds


def test_a_storage_that_can_not_be_written_has_a_line(tmp_path: Path, demo_data: ImageData):
    (tmp_path / "file").write_text("")
    for storage in ("file", "file/runs"):
        with pytest.raises(UserError, match=r"^storage: can't write .*: a part of it is a file"):
            RunFolder.create(study_in(tmp_path, demo_data, storage=storage), demo_data)


def test_a_search_that_was_not_begun_can_not_be_resumed(tmp_path: Path, demo_data: ImageData):
    with pytest.raises(UserError, match="no search was begun here; leave out --resume"):
        RunFolder.reopen(study_in(tmp_path, demo_data), demo_data)
    assert not (tmp_path / "runs").exists()


def test_a_second_driver_is_refused_until_the_first_is_gone(tmp_path: Path, demo_data: ImageData):
    study = study_in(tmp_path, demo_data)
    first = RunFolder.create(study, demo_data)
    with pytest.raises(UserError, match="another search is at work in this folder"):
        RunFolder.reopen(study, demo_data)
    first.close()
    RunFolder.reopen(study, demo_data).close()


def test_a_trial_that_goes_on_keeps_the_epochs_that_the_tables_know_until_it_reports(
    tmp_path: Path, demo_data: ImageData
):
    study = study_in(tmp_path, demo_data)
    folder = RunFolder.create(study, demo_data)
    known = [METRICS, replace(METRICS, epoch=2, accuracy=0.75)]
    folder.write_tables([complete(0), TrialRecord(number=1, recipe=Recipe(), epochs=known)])
    folder.close()
    folder = RunFolder.reopen(study, demo_data)
    # As Optuna's storage has it: its epochs are stored when it ends.
    running = TrialRecord(number=1, recipe=Recipe())
    folder.restore_epochs([running])
    assert (running.known_epochs, running.epochs) == (known, [])
    folder.write_tables([complete(0), running])
    run = read_run(folder.path)
    assert run.trials["epochs_trained"].tolist() == [1, 2]
    assert run.trials["seconds"].tolist() == [1.25, 2.5]
    assert len(run.epochs) == 3
    # Its checkpoint has one epoch: the second one is trained again.
    running.add_epochs([METRICS])
    folder.write_tables([complete(0), running])
    assert read_run(folder.path).trials["epochs_trained"].tolist() == [1, 1]
    folder.close()


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_a_trial_goes_on_without_tables_that_can_be_read(
    content: bytes | None, tmp_path: Path, demo_data: ImageData
):
    folder = RunFolder.create(study_in(tmp_path, demo_data), demo_data)
    if content is not None:
        (folder.path / EPOCHS).write_bytes(content)
    running = TrialRecord(number=1, recipe=Recipe())
    folder.restore_epochs([running])
    assert running.known_epochs == []
    folder.close()


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"space": {"epochs": 3}}, r"space \(.*epochs.*\)"),
        ({"objectives": {"accuracy": "max"}}, "objectives"),
        ({"constraints": {"accuracy": ">= 0.5"}}, "constraints on metrics"),
        (
            {"space": "ladder", "objectives": {"gflops": "min"}},
            r"space \(.*\) and objectives",
        ),
    ],
)
def test_a_changed_study_is_not_resumed_and_leaves_the_folder_free(
    changes: dict[str, Any], changed: str, tmp_path: Path, demo_data: ImageData
):
    study = study_in(tmp_path, demo_data)
    RunFolder.create(study, demo_data).close()
    before = (study.folder / STUDY).read_bytes()
    with pytest.raises(UserError, match=f": {changed} changed since this search began"):
        RunFolder.reopen(study_in(tmp_path, demo_data, **changes), demo_data)
    assert (study.folder / STUDY).read_bytes() == before
    RunFolder.reopen(study, demo_data).close()


def test_a_space_that_became_wider_is_gone_on_in_and_recorded(tmp_path: Path, demo_data: ImageData):
    space = {"width": [0.5, 1.0], "batch_size": 16}
    study = study_in(tmp_path, demo_data, space=space)
    RunFolder.create(study, demo_data).close()
    wider = {**space, "width": {"float": [0.25, 1.0]}, "augment": ["none", "light"]}
    folder = RunFolder.reopen(study_in(tmp_path, demo_data, space=wider), demo_data)
    folder.close()
    assert folder.widened == ("width", "augment")
    content = read_yaml_mapping(folder.path / STUDY)
    assert content["space"] == {**wider, "seed": 0}
    assert content["provenance"]["resumed"][-1]["widened"] == ["width", "augment"]
    again = RunFolder.reopen(study_in(tmp_path, demo_data, space=wider), demo_data)
    again.close()
    assert again.widened == ()
    with pytest.raises(UserError) as error:
        RunFolder.reopen(study, demo_data)
    assert str(error.value) == (
        f"{study.folder}: space (width, augment) changed since this search began; change it back,"
        f" or search under another name, with warm_start: [{study.folder}] to use these trials;"
        " only a space that became wider is gone on in"
    )


def test_data_that_grew_is_for_another_search_which_may_use_these_trials(
    tmp_path: Path, demo_data: ImageData
):
    study = study_in(tmp_path, demo_data)
    RunFolder.create(study, demo_data).close()
    grown = replace(demo_data, digest="0" * 32, grown_from=(demo_data.digest,))
    with pytest.raises(UserError, match=r": data changed .* warm_start: \[.*tiny\] to use these"):
        RunFolder.reopen(study, grown)


def test_changed_data_is_not_resumed(tmp_path: Path, demo_data: ImageData):
    RunFolder.create(study_in(tmp_path, demo_data), demo_data).close()
    other = make_demo(tmp_path / "other", classes=2, size=16)
    with pytest.raises(UserError, match=": data changed since this search began"):
        RunFolder.reopen(study_in(tmp_path, other), other)


def test_latencies_of_another_machine_are_not_gone_on_from(
    tmp_path: Path, demo_data: ImageData, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "plain").mkdir()
    (tmp_path / "timed").mkdir()
    plain = study_in(tmp_path / "plain", demo_data)
    objectives = {"accuracy": "max", "latency_ms": "min"}
    timed = study_in(tmp_path / "timed", demo_data, objectives=objectives)
    for study in (plain, timed):
        RunFolder.create(study, demo_data).close()
    monkeypatch.setattr(run_folder_module, "machine_name", lambda: "another CPU, 2 cores")
    RunFolder.reopen(plain, demo_data).close()
    with pytest.raises(UserError, match=r"latency_ms was .* can't be compared on another CPU"):
        RunFolder.reopen(timed, demo_data)


def test_a_study_file_that_lost_its_provenance_has_a_line(tmp_path: Path, demo_data: ImageData):
    study = study_in(tmp_path, demo_data)
    RunFolder.create(study, demo_data).close()
    (study.folder / STUDY).write_text("name: tiny")
    with pytest.raises(UserError, match="damaged, provenance is missing"):
        RunFolder.reopen(study, demo_data)


def test_a_resumed_search_may_have_more_to_spend(tmp_path: Path, demo_data: ImageData):
    RunFolder.create(study_in(tmp_path, demo_data, budget={"trials": 2}), demo_data).close()
    study = study_in(tmp_path, demo_data, budget={"trials": 99}, resources={"cpus": 2})
    RunFolder.reopen(study, demo_data).close()
    content = read_yaml_mapping(study.folder / STUDY)
    assert content["budget"]["trials"] == 99
    assert content["resources"]["cpus"] == 2


def test_sessions_are_counted_and_checkpoints_of_a_trial_are_found_the_newest_first(
    tmp_path: Path, demo_data: ImageData
):
    folder = RunFolder.create(study_in(tmp_path, demo_data), demo_data)
    assert folder.checkpoints.of(3) == []
    found = []
    for age, names in enumerate(("checkpoint_000001", "checkpoint_000000")):
        assert folder.checkpoints.new_session() == f"session-{age + 1:03d}"
        trial = folder.path / TUNE / folder.checkpoints.new_session() / "trial-00003"
        checkpoint = trial / names
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.pt").write_bytes(b"x")
        os.utime(checkpoint / "state.pt", (age, age))
        found.append(checkpoint)
    empty = found[-1].with_name("checkpoint_000009")
    empty.mkdir()
    assert folder.checkpoints.of(3) == [str(path) for path in found[::-1]]
    assert folder.checkpoints.of(4) == []
    folder.close()


def checkpoints_of(folder: RunFolder, number: int, *, times: Iterable[int]) -> list[str]:
    """Make a trial's checkpoints, one of each time; returns their names."""
    names = []
    for index, time in enumerate(times):
        name = f"{TUNE}/session-001/trial-{number:05d}/checkpoint_{index:06d}"
        (folder.path / name).mkdir(parents=True)
        (folder.path / name / "state.pt").write_bytes(b"x")
        os.utime(folder.path / name / "state.pt", (time, time))
        names.append(name)
    return names


def test_a_paused_trial_keeps_its_checkpoint_and_newer_ones(tmp_path: Path, demo_data: ImageData):
    folder = RunFolder.create(study_in(tmp_path, demo_data), demo_data)
    oldest, kept, newer = checkpoints_of(folder, 3, times=(1, 2, 3))
    # This one's folder was written last: its removal was cut off.
    os.utime(folder.path / oldest, (9, 9))
    paused = TrialRecord(number=3, recipe=Recipe(), paused="later", checkpoint=kept)
    folder.checkpoints.keep(paused)
    assert folder.checkpoints.of(3) == [str(folder.path / name) for name in (newer, kept)]
    # Whatever became of its own, it goes on from any other.
    for gone in (None, oldest):
        paused.checkpoint = gone
        folder.checkpoints.keep(paused)
        assert len(folder.checkpoints.of(3)) == 2
    paused.paused, paused.state, paused.checkpoint = None, TrialState.PRUNED, None
    folder.checkpoints.keep(paused)
    assert folder.checkpoints.of(3) == []
    folder.close()


def test_checkpoints_of_a_longer_number_are_those_of_another_trial(
    tmp_path: Path, demo_data: ImageData
):
    folder = RunFolder.create(study_in(tmp_path, demo_data), demo_data)
    [other] = checkpoints_of(folder, 100_001, times=(1,))
    folder.checkpoints.keep(TrialRecord(number=10_000, state=TrialState.PRUNED))
    assert folder.checkpoints.of(10_000) == []
    assert folder.checkpoints.of(100_001) == [str(folder.path / other)]
    folder.close()


def test_a_paused_trial_has_a_state_of_its_own_with_its_reason(
    tmp_path: Path, demo_data: ImageData
):
    folder = RunFolder.create(study_in(tmp_path, demo_data), demo_data)
    paused = TrialRecord(number=1, recipe=Recipe(), paused="later: no gain", checkpoint="tune/1")
    paused.add_epochs([METRICS])
    folder.write_tables([complete(0), paused])
    run = read_run(folder.path)
    row = run.trials.iloc[1]
    assert row[["state", "epochs_trained", "seconds", "checkpoint", "stop_reason"]].tolist() == [
        *("PAUSED", 1, 1.25, "tune/1", "later: no gain")
    ]
    assert len(run.epochs) == 2
    assert run.counts_in_words() == "1 complete, 1 paused"
    folder.close()


def test_a_driver_that_is_killed_while_it_makes_its_folder_is_no_obstacle(
    tmp_path: Path, demo_data: ImageData
):
    study = study_in(tmp_path, demo_data)
    code = (
        "import os, sys; from pathlib import Path; from search.storage import run_folder\n"
        "from search.study.study import load_study\n"
        "from trainables.data.dataset import open_data\n"
        "def write(path, content): os.kill(os.getpid(), 9)\n"
        "run_folder.replace_file = write\n"
        "run_folder.RunFolder.create(load_study(Path(sys.argv[1])), open_data(Path(sys.argv[2])))"
    )
    words = [sys.executable, "-c", code, tmp_path / "study.yaml", demo_data.path]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(words, env={"PYTHONPATH": str(root)}, check=False)
    assert done.returncode == -9
    (left,) = study.folder.parent.iterdir()
    assert left.name.startswith(f".{study.name}.partial-")
    folder = RunFolder.create(study, demo_data)
    assert [path.name for path in study.folder.parent.iterdir()] == [study.name]
    folder.close()
