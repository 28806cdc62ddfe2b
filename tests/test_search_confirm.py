"""`flopwise confirm`, from a small search to what the test split says of its front."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis_runs import four_trials, write_run
from searches import SPACE, write_study

import trainables.export.predictions_on_split
from analysis.runs import read_run, run_recipe
from search.engine import run_search
from search.followups.confirm import confirm, recall_confirmation
from search.study.study import load_study
from spaces.errors import UserError
from trainables.data.dataset import ImageData

FIXED = {**SPACE, "input_size": 48, "batch_size": 16, "learning_rate": 1e-3, "batch_norm": True}
FIXED |= {"width": 0.1, "epochs": 2}
# What the search is made to have seen: trials 0 and 1 are its front, which 2 is not on.
SEEN = [0.4, 0.6, 0.5]


@pytest.fixture(scope="module")
def searched(
    two_workers: None, demo_data: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A search of three recipes, whose luck is written by hand."""
    widths = [{**FIXED, "width": width} for width in (0.1, 0.12, 0.14)]
    path = write_study(
        tmp_path_factory.mktemp("confirm"),
        demo_data,
        space={**FIXED, "enqueue": widths},
        dominated="keep",
        budget={"trials": 3},
    )
    folder = run_search(load_study(path)).folder
    table = pd.read_parquet(folder / "trials.parquet")
    table["accuracy"] = SEEN
    table["unfrozen"] = table["unfrozen"].astype("Int64")
    table["float_epochs"] = table["float_epochs"].astype("Int64")
    table.to_parquet(folder / "trials.parquet")
    return folder


@pytest.fixture
def run(searched: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(searched, tmp_path / "tiny"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recipes whose models were asked, each time with the split that they were asked for."""
    asked: list[str] = []
    original = trainables.export.predictions_on_split.predictions_on_split

    def predictions_on_split(recipe, data, checkpoint, split, **more):
        asked.append(f"{recipe.key} {split}")
        return original(recipe, data, checkpoint, split, **more)

    monkeypatch.setattr(
        trainables.export.predictions_on_split, "predictions_on_split", predictions_on_split
    )
    return asked


def test_the_front_is_trained_again_and_judged_once(
    two_workers: None, run: Path, demo_data: ImageData, opened: list[str]
):
    found = confirm(run, seeds=2)
    assert [candidate.trial for candidate in found.candidates] == [0, 1]
    assert found.num_images == len(demo_data.rows("test"))
    trials = read_run(run / "confirm" / "front").trials
    assert len(trials) == 4
    searched = {run_recipe(row) for _, row in read_run(run).trials.iterrows()}
    fresh = [run_recipe(row) for _, row in trials.iterrows()]
    # The search's recipes but for the seed, which is none of the search's.
    assert {recipe.replace(seed=0) for recipe in fresh} < searched
    assert not searched.intersection(fresh)
    # Accuracies are those of the new trials, and dominated ones were there to be judged.
    for candidate in found.candidates:
        same = trials.loc[trials["width"] == candidate.row["width"]]
        assert sorted(same["accuracy"]) == sorted(candidate.validation)
    assert all((run / "confirm" / "front" / path).is_dir() for path in trials["checkpoint"])
    assert sorted(opened) == sorted(f"{recipe.key} test" for recipe in fresh)
    assert found.seed_bias.mean == pytest.approx(
        np.mean([0.4, 0.6]) - np.mean([one.validation.mean() for one in found.candidates])
    )


def test_what_the_test_split_gave_is_kept_and_never_asked_for_again(
    two_workers: None, run: Path, demo_data: ImageData, opened: list[str]
):
    first = confirm(run, top=1, seeds=2)
    table = pd.read_parquet(run / "confirm" / "tested.parquet")
    rows = demo_data.rows("test")
    for _, model in table.groupby("recipe"):
        assert model["image"].tolist() == rows.tolist()
        assert model["label"].tolist() == demo_data.labels[rows].tolist()
    (candidate,) = first.candidates
    for seed, correct in zip(candidate.seeds, candidate.correct, strict=True):
        model = table.loc[table["seed"] == seed]
        assert (model["label"] == model["answer"]).tolist() == correct.tolist()
    before = (run / "confirm" / "top-1" / "trials.parquet").read_bytes()
    assert len(opened) == 2
    again = confirm(run, top=1, seeds=2)
    assert len(opened) == 2
    np.testing.assert_array_equal(again.drawn, first.drawn)
    assert (run / "confirm" / "top-1" / "trials.parquet").read_bytes() == before
    # One seed more, and the rest of the front: only they are trained and judged.
    more = confirm(run, seeds=3)
    assert len(opened) == len(set(opened)) == 6
    assert [len(candidate.seeds) for candidate in more.candidates] == [3, 3]
    assert len(read_run(run / "confirm" / "front").trials) == 4


def test_what_was_confirmed_so_far_is_recalled(two_workers: None, run: Path, opened: list[str]):
    assert recall_confirmation(read_run(run)) is None
    confirm(run, top=1, seeds=2)
    found = confirm(run, seeds=3)
    recalled = recall_confirmation(read_run(run))
    assert recalled is not None
    for one, other in zip(recalled.candidates, found.candidates, strict=True):
        assert one.row == other.row
        assert dict(zip(one.seeds, one.validation, strict=True)) == dict(
            zip(other.seeds, other.validation, strict=True)
        )
    assert recalled.optimism.to_dict() == pytest.approx(found.optimism.to_dict())
    assert recalled.front_shares == pytest.approx(found.front_shares)
    assert recalled.num_seeds == 3
    assert len(opened) == 6
    # What was trained and not judged yet waits; one seed says nothing.
    table = run / "confirm" / "tested.parquet"
    predictions = pd.read_parquet(table)
    first, second = predictions["recipe"].unique()[:2]
    predictions[predictions["recipe"] != first].to_parquet(table)
    recalled = recall_confirmation(read_run(run))
    assert recalled is not None
    assert sorted(len(candidate.seeds) for candidate in recalled.candidates) == [2, 3]
    predictions[predictions["recipe"] == second].to_parquet(table)
    assert recall_confirmation(read_run(run)) is None


def test_a_model_that_was_not_judged_yet_must_have_its_checkpoint(two_workers: None, run: Path):
    confirm(run, top=1, seeds=2)
    (run / "confirm" / "tested.parquet").unlink()
    shutil.rmtree(run / "confirm" / "top-1" / "tune")
    (run / "confirm" / "top-1" / "tune").mkdir()
    with pytest.raises(UserError, match="lost its checkpoint"):
        confirm(run, top=1, seeds=2)


def test_the_command_goes_on_after_an_interruption_tells_and_draws(
    two_workers: None, flopwise, run: Path
):
    command = [sys.executable, "-m", "search.cli", "confirm", str(run), "--seeds", "3"]
    table = run / "confirm" / "front" / "trials.parquet"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finished() -> pd.DataFrame:
        trials = pd.read_parquet(table) if table.exists() else pd.DataFrame({"state": []})
        return trials.loc[trials["state"] == "COMPLETE"]

    while process.poll() is None and finished().empty:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    done = finished()
    if len(done) < 6:
        assert process.returncode == 130, output
        assert "the same command goes on" in output
    assert "Traceback" not in output
    code, message, complaint = flopwise("confirm", run, "--seeds", 3)
    assert code == 0, complaint
    for words in ("truly non-dominated:", "seed bias (", "optimism ("):
        assert words in message
    assert (run / "confirm" / "front.png").stat().st_size > 5_000
    trials = read_run(run / "confirm" / "front").trials
    assert sorted(trials["state"]) == ["COMPLETE"] * 6
    assert trials["seconds"].tolist()[: len(done)] == done["seconds"].tolist()
    found = json.loads(flopwise("confirm", run, "--seeds", 3, "--json")[1])
    assert [candidate["trial"] for candidate in found["candidates"]] == [0, 1]
    assert "6 complete" in flopwise("status", run / "confirm" / "front")[1]
    assert "accuracy" in flopwise("front", run / "confirm" / "front")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "--top", "0"], "--top: 0 leaves no candidate"),
        (["{run}", "--seeds", "1"], "--seeds: 1 can't show the spread"),
        (["{tmp}/nothing"], "there is no such run folder"),
        (["{tmp}/empty"], "no finished trial yet"),
        (["{tmp}/moved"], "moved/study.yaml"),
        (["{tmp}/other"], ": not the data"),
    ],
)
def test_mistakes_are_told_in_a_line_with_exit_code_2(
    flopwise, searched: Path, tmp_path: Path, words: list[str], message: str
):
    write_run(tmp_path / "empty", four_trials()[4:])
    write_run(tmp_path / "moved", four_trials())  # its study.yaml names no space
    shutil.copytree(searched, tmp_path / "other")
    study = tmp_path / "other" / "study.yaml"
    study.write_text(study.read_text().replace("data_digest: ", "data_digest: other-"))
    filled = (word.format(run=searched, tmp=tmp_path) for word in words)
    code, _, complaint = flopwise("confirm", *filled)
    assert code == 2
    assert message in complaint
    assert len(complaint.splitlines()) == 1
    assert not (searched / "confirm").exists()
