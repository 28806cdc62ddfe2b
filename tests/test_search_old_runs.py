"""Run folders that earlier versions made: they open, and a search of theirs goes on.

tests/old_run was made by the version before stop reasons and sub-packages: eight trials on the
synthetic data of `demo_data`, three of them stopped early, with the checkpoint of the knee.
"""

import json
import shutil
from pathlib import Path

import pytest

import analysis
from analysis.runs import read_run
from search.decisions.trial_record import read_record
from search.storage.optuna_storage import read_trials
from spaces.yaml_files import read_yaml_mapping, write_yaml
from trainables.data.dataset import ImageData

OLD_RUN = Path(__file__).with_name("old_run")
EXAMPLE = Path(analysis.__file__).parent / "example"


@pytest.fixture
def old_run(tmp_path: Path, demo_data: ImageData) -> Path:
    """A copy, on this machine's data: its images may come out otherwise with another Pillow."""
    folder = tmp_path / "runs" / "old"
    shutil.copytree(OLD_RUN, folder)
    study = read_yaml_mapping(folder / "study.yaml")
    study["data"] = {"path": str(demo_data.path)}
    study["storage"] = str(folder.parent)
    study["provenance"]["data_digest"] = demo_data.digest
    (folder / "study.yaml").write_text(write_yaml(study))
    return folder


@pytest.mark.parametrize("run", ["old", "example"])
def test_an_old_run_is_shown(run: str, old_run: Path, tmp_path: Path, flopwise):
    folder = old_run if run == "old" else EXAMPLE
    code, out, _ = flopwise("status", folder, "--json")
    status = json.loads(out)
    assert (code, status["stopped"]) == (0, {})
    assert status["complete"] == {"old": 5, "example": 12}[run]
    code, out, _ = flopwise("front", folder, "--picture", tmp_path / "front.png")
    assert code == 0
    assert f"Front of {status['name']}" in out
    code, out, _ = flopwise("front", folder, "--json")
    assert len(json.loads(out)) == status["on_front"] == {"old": 4, "example": 6}[run]
    assert read_run(folder).trials["stop_reason"].isna().sum() == status["trials"]


def test_an_old_run_has_a_report_with_its_model_class_by_class(old_run: Path, flopwise):
    code, out, _ = flopwise("report", old_run)
    assert code == 0
    assert "No predictions" not in out
    page = (old_run / "report.html").read_text()
    assert "class by class" in page


def test_the_example_has_a_report_without_its_data(tmp_path: Path, flopwise):
    example = shutil.copytree(EXAMPLE, tmp_path / "example")
    code, _, _ = flopwise("report", example)
    assert code == 0
    assert "animals25" in (example / "report.html").read_text()


def test_an_old_checkpoint_is_exported_with_its_accuracy(old_run: Path, tmp_path: Path, flopwise):
    code, _, _ = flopwise("export", old_run, "--out", tmp_path / "knee.yaml")
    assert code == 0
    assert read_yaml_mapping(tmp_path / "knee.yaml")["numbers"]["trial"] == 4
    code, out, _ = flopwise("export", old_run, "--format", "onnx", "--out", tmp_path / "knee.onnx")
    assert code == 0
    assert "57.9" in out
    assert (tmp_path / "knee.onnx").exists()


def test_old_runs_compare(old_run: Path, tmp_path: Path, flopwise):
    other = shutil.copytree(old_run, tmp_path / "other")
    picture = tmp_path / "compare.png"
    code, out, _ = flopwise("compare", old_run, other, "--picture", picture, "--json")
    assert code == 0
    one, two = json.loads(out)
    assert one["hypervolume"] == two["hypervolume"] > 0


def test_an_old_search_goes_on_where_it_was(old_run: Path, two_workers: None, flopwise):
    before = {trial.number: trial.user_attrs for trial in read_trials(old_run)}
    code, out, _ = flopwise("search", old_run / "study.yaml", "--resume", "--trials", 11)
    assert code == 0, out
    trials = read_trials(old_run)
    assert [trial.number for trial in trials] == list(range(11))
    assert {trial.number: trial.user_attrs for trial in trials[:8]} == before
    run = read_run(old_run)
    assert run.counts()["RUNNING"] == 0
    assert len(run.trials) == 11
    for trial in trials:
        record, _ = read_record(trial)
        assert record.state.name == run.trials["state"].iloc[trial.number]
