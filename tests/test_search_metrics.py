"""Metrics beside accuracy in whole searches: objective, constraint and column, to the report."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from noise_images import noise_images
from searches import ONE_WORKER, SPACE, write_study

from analysis.choose import choose
from analysis.runs import read_run
from search.engine import run_search
from search.followups.confirm import confirm
from search.followups.report import make_report
from search.storage.optuna_storage import open_study
from search.study.study import load_study
from spaces.errors import UserError
from trainables.data.dataset import ImageData

NAMES = ["the common, [one]", "$rare$ <b>"]
RARE = f"recall:{NAMES[1]}"
OBJECTIVES = {"balanced_accuracy": "max", "effective_gflops": "min"}
CONSTRAINTS = {RARE: ">= 0", "macro_f1": ">= 0.1"}


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    """95 images of a hundred are of one class, and nothing tells them from the others."""
    return noise_images(tmp_path_factory.mktemp("noise") / "data", [380, 20], names=NAMES)


@pytest.fixture(scope="module")
def searched(two_workers: None, noise: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    space = {**SPACE, "input_size": 48, "epochs": 2, "class_weighting": ["none", "balanced"]}
    path = write_study(
        tmp_path_factory.mktemp("metrics"),
        noise,
        space=space,
        objectives=OBJECTIVES,
        constraints=CONSTRAINTS,
        resources=ONE_WORKER,
        budget={"trials": 5},
    )
    return run_search(load_study(path)).folder


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    shutil.copytree(searched.parents[1], tmp_path / "copy")
    return tmp_path / "copy" / "runs" / "tiny"


def test_every_metric_is_a_column_of_trials_and_epochs(searched: Path):
    trials, epochs = (pd.read_parquet(searched / f"{one}.parquet") for one in ("trials", "epochs"))
    names = ["accuracy", "balanced_accuracy", "macro_f1", "worst_class_recall", "top5_accuracy"]
    complete = trials.loc[trials["state"] == "COMPLETE"]
    last = epochs.drop_duplicates("trial", keep="last").set_index("trial")
    assert len(complete)
    for name in (*names, RARE):
        assert complete[name].between(0, 1).all()
        trained = complete.loc[complete["epochs_trained"] > 0].set_index("trial")[name]
        assert trained.equals(last.loc[trained.index, name])
    # Two classes: the mean of two recalls, of which the worse one is recorded too.
    stored = [trial for trial in open_study(searched, "tiny").get_trials() if trial.values]
    assert [trial.values[0] for trial in stored] == complete["balanced_accuracy"].tolist()
    assert RARE in stored[0].constraints


def test_no_model_that_always_answers_the_same_is_above_chance(searched: Path):
    run = read_run(searched)
    assert (run.metric, run.guessing, run.largest_class) == ("balanced_accuracy", 0.5, NAMES[0])
    same = run.epochs.loc[run.epochs["accuracy"].isin([0.05, 0.95])]
    assert len(same)
    assert set(same["balanced_accuracy"]) == {0.5}


def test_a_resume_goes_on_with_the_same_metric(run: Path, noise: ImageData):
    study = run.parents[1] / "study.yaml"
    content = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump(content | {"budget": {"trials": 6}}))
    before = pd.read_parquet(run / "trials.parquet")
    run_search(load_study(study), resume=True)
    after = pd.read_parquet(run / "trials.parquet")
    assert len(after) == 6
    assert after[RARE].tolist()[:5] == pytest.approx(before[RARE].tolist(), nan_ok=True)
    study.write_text(yaml.safe_dump(content | {"objectives": {"accuracy": "max", "gflops": "min"}}))
    with pytest.raises(UserError, match="objectives changed since this search began"):
        run_search(load_study(study), resume=True)


def test_commands_and_pages_say_the_metric_of_the_study(run: Path, flopwise: Any):
    for command in (["front"], ["status"]):
        code, out, err = flopwise(*command, run)
        assert (code, err) == (0, "")
        assert "balanced accuracy" in " ".join(out.split())
    out = " ".join(flopwise("front", run)[1].split())
    assert f"always answering {NAMES[0]} would get 50.0 % balanced accuracy" in out
    [record, *_] = json.loads(flopwise("front", run, "--json")[1])
    assert record[RARE] is not None
    assert record["test_balanced_accuracy"] is None
    status = json.loads(flopwise("status", run, "--json")[1])
    assert status["metric"] == "balanced_accuracy"
    assert status["best_balanced_accuracy"] == max(
        read_run(run).finished["balanced_accuracy"].tolist()
    )
    report = make_report(run, latency=False)
    page = report.page.read_text()
    assert "balanced accuracy" in page
    assert "<b>\u003c" not in page
    names = {path.name for path in report.pictures}
    assert {"samples.png", "front.png"} <= names
    assert report.page.stat().st_size < 30e6


def test_a_rule_picks_by_the_metric_and_bounds_any_class(run: Path):
    read = read_run(run)
    finished = read.finished
    best = choose(read, "most-accurate")
    assert best.row["balanced_accuracy"] == finished["balanced_accuracy"].max()
    assert "the highest balanced accuracy" in best.reason
    rule = f"recall:{json.dumps(NAMES[1])} >= 0, macro_f1 >= 0.1"
    assert choose(read, rule).trial in set(finished["trial"])
    with pytest.raises(UserError, match="only recalls that the study names"):
        choose(read, "recall:other>=0.5")


def test_confirm_measures_the_metric_on_the_test_split(two_workers: None, run: Path):
    found = confirm(run, top=1, seeds=2)
    [candidate], [interval] = found.candidates, found.accuracies
    assert candidate.metric == "balanced_accuracy"
    assert candidate.promised == candidate.row["balanced_accuracy"]
    assert candidate.test == pytest.approx(0.5, abs=0.3)
    assert interval.mean == pytest.approx(candidate.test.mean())
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    assert np.isfinite(found.optimism.mean)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"constraints": {"recall:$rare$ <i>": ">= 0.5"}}, r"no class of this name; did you mean"),
        (
            {"objectives": {"top5_accuracy": "max", "gflops": "min"}},
            "top5_accuracy: is always 1 with 2 classes; use accuracy",
        ),
        (
            {"objectives": {"accuracy": "max", "macro_f1": "max"}},
            "a search maximises one metric",
        ),
    ],
)
def test_a_study_that_its_data_can_not_fulfil_ends_with_one_line(
    noise: ImageData, tmp_path: Path, flopwise: Any, changes: dict[str, Any], line: str
):
    path = write_study(tmp_path, noise, **changes)
    code, _, err = flopwise("search", path)
    assert code == 2
    assert line in " ".join(err.split())
    assert not (tmp_path / "runs").exists()
