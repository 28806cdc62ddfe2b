"""`flopwise confirm`, from a small search to what the test split says of its front."""

import io
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis_runs import four_trials, write_run
from searches import ONE_WORKER, SPACE, once, write_study

import trainables.export.predictions_on_split
from analysis.results.confirmation import Confirmation
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
        resources=ONE_WORKER,
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


@contextmanager
def opened_splits() -> Iterator[list[str]]:
    """The recipes whose models are asked meanwhile, each with the split that it is asked for."""
    asked: list[str] = []
    original = trainables.export.predictions_on_split.predictions_on_split

    def predictions_on_split(recipe, data, checkpoint, split, **more):
        asked.append(f"{recipe.key} {split}")
        return original(recipe, data, checkpoint, split, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            trainables.export.predictions_on_split, "predictions_on_split", predictions_on_split
        )
        yield asked


@pytest.fixture
def opened() -> Iterator[list[str]]:
    with opened_splits() as asked:
        yield asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A run that was confirmed; whoever changes it copies it."""

    run: Path
    found: Confirmation
    opened: tuple[str, ...]

    def copy(self, to: Path) -> Path:
        return Path(shutil.copytree(self.run, to / "tiny"))


@pytest.fixture(scope="module")
def best_confirmed(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Confirmed:
    """One candidate, with two seeds."""
    run = Path(shutil.copytree(searched, tmp_path_factory.mktemp("best") / "tiny"))
    with opened_splits() as opened:
        found = confirm(run, top=1, seeds=2)
    return Confirmed(run=run, found=found, opened=tuple(opened))


@pytest.fixture(scope="module")
def front_confirmed(
    best_confirmed: Confirmed, tmp_path_factory: pytest.TempPathFactory
) -> Confirmed:
    """After the best candidate with two seeds, the whole front with three."""
    run = best_confirmed.copy(tmp_path_factory.mktemp("front"))
    with opened_splits() as opened:
        found = confirm(run, seeds=3)
    return Confirmed(run=run, found=found, opened=tuple(opened))


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
    best_confirmed: Confirmed, demo_data: ImageData, opened: list[str]
):
    run, first = best_confirmed.run, best_confirmed.found
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
    assert len(best_confirmed.opened) == 2
    again = confirm(run, top=1, seeds=2)
    assert opened == []
    np.testing.assert_array_equal(again.drawn, first.drawn)
    assert (run / "confirm" / "top-1" / "trials.parquet").read_bytes() == before


def test_with_more_seeds_and_candidates_only_they_are_trained_and_judged(
    best_confirmed: Confirmed, front_confirmed: Confirmed
):
    opened = best_confirmed.opened + front_confirmed.opened
    assert len(opened) == len(set(opened)) == 6
    assert [len(candidate.seeds) for candidate in front_confirmed.found.candidates] == [3, 3]
    assert len(read_run(front_confirmed.run / "confirm" / "front").trials) == 4


def test_what_was_confirmed_so_far_is_recalled(
    searched: Path, front_confirmed: Confirmed, tmp_path: Path, opened: list[str]
):
    assert recall_confirmation(read_run(searched)) is None
    run, found = front_confirmed.copy(tmp_path), front_confirmed.found
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
    assert opened == []
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


def test_a_model_that_was_not_judged_yet_must_have_its_checkpoint(
    best_confirmed: Confirmed, tmp_path: Path
):
    run = best_confirmed.copy(tmp_path)
    (run / "confirm" / "tested.parquet").unlink()
    shutil.rmtree(run / "confirm" / "top-1" / "tune")
    (run / "confirm" / "top-1" / "tune").mkdir()
    with pytest.raises(UserError, match="lost its checkpoint"):
        confirm(run, top=1, seeds=2)


def test_the_command_goes_on_after_an_interruption_tells_and_draws(
    two_workers: None, flopwise, run: Path
):
    table = run / "confirm" / "front" / "trials.parquet"

    def finished() -> pd.DataFrame:
        trials = (
            pd.read_parquet(io.BytesIO(table.read_bytes()))
            if table.exists()
            else pd.DataFrame({"state": []})
        )
        return trials.loc[trials["state"] == "COMPLETE"]

    with once(lambda: not finished().empty, lambda: os.kill(os.getpid(), signal.SIGINT)):
        code, message, complaint = flopwise("confirm", run, "--seeds", 3)
    done = finished()
    if len(done) < 6:
        assert code == 130, message + complaint
        assert "run the same command to continue" in message + complaint
    assert "Traceback" not in message + complaint
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
