"""The recorded search that is shipped, searched again in simulated time."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from analysis.pareto.front import pareto_front
from search.cli import app
from search.decisions.budget import Budget
from search.decisions.stopping_rules import EarlyStoppingSettings
from search.simulation.pool import Nearness
from search.simulation.reading import read_benchmark
from search.simulation.simulator import TRIAL_SECONDS, SimulationSettings, simulate, traces_of
from search.simulation.tabular_benchmark import TabularBenchmark
from search.storage.optuna_storage import create_study
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.space_file import parse_space

CURVES = Path(__file__).resolve().parents[1] / "benchmarks" / "curves"
NONE = EarlyStoppingSettings(name="none")


@pytest.fixture(scope="module")
def table() -> TabularBenchmark:
    return read_benchmark(CURVES)


def settings(trials: int, **changes: Any) -> SimulationSettings:
    return SimulationSettings(**{"sampler": "random", "budget": Budget(trials=trials), **changes})


def study_of(table: TabularBenchmark) -> optuna.Study:
    return optuna.create_study(directions=table.objectives.optuna_directions)


def test_searching_all_of_the_table_finds_all_of_its_front(table: TabularBenchmark):
    study = study_of(table)
    done = simulate(table, settings(len(table.trials), early_stopping=NONE), study=study)
    assert done.counts == {"COMPLETE": len(table.trials), "PRUNED": 0, "FAIL": 0}
    assert done.growth[-1].hypervolume == pytest.approx(1.0)
    found = {tuple(trial.values) for trial in study.trials}
    signs = [-1.0 if way == "max" else 1.0 for way in table.objectives.values()]
    assert found == {tuple(row) for row in (table.losses * signs).tolist()}
    seconds = sum(metrics.seconds for trial in table.trials for metrics in trial.epochs)
    assert done.worker_seconds == pytest.approx(seconds)


def test_time_is_that_of_the_recorded_epochs(table: TabularBenchmark):
    seconds = [sum(metrics.seconds for metrics in trial.epochs) for trial in table.trials]
    whole = sum(seconds) + TRIAL_SECONDS * len(seconds)
    alone = simulate(table, settings(len(seconds), early_stopping=NONE, workers=1))
    assert alone.seconds == pytest.approx(whole)
    four = simulate(table, settings(len(seconds), early_stopping=NONE, workers=4))
    assert whole / 4 <= four.seconds <= whole / 4 + max(seconds)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "qmc"])
def test_the_same_seed_gives_the_same_replay(table: TabularBenchmark, sampler: str):
    one, two, other = (
        simulate(table, settings(60, sampler=sampler, seed=seed)) for seed in (0, 0, 1)
    )
    assert replace(one, driver_seconds=0.0) == replace(two, driver_seconds=0.0)
    assert one.growth != other.growth


def test_no_recipe_is_proposed_twice_before_all_were_and_then_with_another_seed(
    table: TabularBenchmark,
):
    study = study_of(table)
    size = len(table.trials)
    simulate(table, settings(size + 20, early_stopping=NONE, workers=8), study=study)
    recipes = [trial.user_attrs["recipe"] for trial in study.trials]
    assert {recipe["seed"] for recipe in recipes[:size]} == {table.trials[0].recipe.seed}
    assert len({json.dumps(recipe) for recipe in recipes}) == size + 20


def test_early_stopping_stops_the_trials_that_a_real_search_would(table: TabularBenchmark):
    """Every stopped trial ended at a rung, short of its epochs, and is PRUNED without values."""
    study = study_of(table)
    done = simulate(table, settings(100), study=study)
    stopped = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert len(stopped) == done.counts["PRUNED"] > 40
    trained = {len(trial.user_attrs["outcome"]["epochs"]) for trial in stopped}
    rungs = EarlyStoppingSettings()
    assert trained <= set(range(rungs.min_epochs, 27))
    assert all(trial.values is None for trial in stopped)
    assert done.worker_seconds < 0.5 * sum(
        sum(metrics.seconds for metrics in trial.epochs) for trial in table.trials[:100]
    )


def test_growth_rises_with_time_to_what_the_front_is_worth(table: TabularBenchmark):
    study = study_of(table)
    done = simulate(table, settings(80), study=study)
    growth = traces_of("it", [done])
    assert (np.diff(growth.seconds[0]) >= 0).all()
    assert (np.diff(growth.hypervolumes[0]) > 0).all()
    complete = [t.values for t in study.trials if t.state == TrialState.COMPLETE]
    losses = np.array(complete) * [-1 if way == "max" else 1 for way in table.objectives.values()]
    share = table.box.normalized_hypervolume(
        losses[pareto_front(losses)]
    ) / table.box.normalized_hypervolume(table.losses)
    assert growth.hypervolumes[0][-1] == pytest.approx(share)


def test_a_replay_may_end_once_the_front_is_complete(table: TabularBenchmark):
    way = settings(len(table.trials), early_stopping=NONE)
    whole, cut = simulate(table, way), simulate(table, way, until_complete=True)
    assert cut.growth == whole.growth
    assert cut.growth[-1].hypervolume == pytest.approx(1)
    assert cut.decisions < whole.decisions
    assert (cut.ended_by, whole.ended_by) == ("complete", "trials")


def test_a_replay_on_a_journal_is_the_same_as_in_memory(table: TabularBenchmark, tmp_path: Path):
    kept = create_study(tmp_path, "kept", table.objectives.optuna_directions)
    one, two = (simulate(table, settings(20), study=study) for study in (kept, None))
    assert replace(one, driver_seconds=0.0) == replace(two, driver_seconds=0.0)


def copy_of_the_table(folder: Path, change: Any) -> Path:
    shutil.copytree(CURVES, folder)
    trials = pd.read_parquet(folder / "trials.parquet")
    change(trials).to_parquet(folder / "trials.parquet")
    return folder


def test_a_run_with_early_stopping_is_refused(tmp_path: Path):
    def stop_one(trials: pd.DataFrame) -> pd.DataFrame:
        return trials.assign(state=["PRUNED", *trials["state"][1:]])

    with pytest.raises(UserError, match=r"1 trials were stopped early, but a replay needs"):
        read_benchmark(copy_of_the_table(tmp_path / "run", stop_one))


def test_too_few_curves_and_a_folder_that_is_no_run_have_a_line(tmp_path: Path):
    with pytest.raises(UserError, match="3 trials with full curves; a replay needs at least 10"):
        read_benchmark(copy_of_the_table(tmp_path / "run", lambda trials: trials[:3]))
    with pytest.raises(UserError, match="there is no such run folder"):
        read_benchmark(tmp_path / "nothing")


def test_trials_that_took_a_result_over_are_left_out(tmp_path: Path, table: TabularBenchmark):
    def repeat_one(trials: pd.DataFrame) -> pd.DataFrame:
        again = trials[:1].assign(trial=10_000, epochs_trained=0)
        return pd.concat([trials, again])

    again = read_benchmark(copy_of_the_table(tmp_path / "run", repeat_one))
    assert len(again.trials) == len(table.trials)


def test_the_command_compares_searches_and_draws_them(tmp_path: Path):
    picture = tmp_path / "growth.png"
    command = ["replay", str(CURVES), "--seeds", "2", "--trials", "40", "--picture", str(picture)]
    result = CliRunner().invoke(app, [*command, "--sampler", "random", "--sampler", "tpe"])
    assert result.exit_code == 0, result.output
    for way in ("random, gain", "tpe, gain", "random, none", "tpe, none"):
        assert way in result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_has_numbers_for_programs():
    command = ["replay", str(CURVES / "trials.parquet"), "--seeds", "2", "--trials", "20", "--json"]
    result = CliRunner().invoke(app, [*command, "--sampler", "random", "--early-stopping", "none"])
    content = json.loads(result.stdout)
    assert content["table"] == "recorded"
    (row,) = content["rows"]
    assert (row["sampler"], row["early_stopping"]) == ("random", "none")
    assert len(row["seconds_to"]["0.8"]) == row["seeds"] == 2


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (["--sampler", "tpee"], "--sampler: tpee is not one of gain, tpe, nsga2.*did you mean tpe"),
        (["--early-stopping", "median"], "--stopping: median is not one of gain"),
        (["--reduction", "1"], "--reduction: 1 is not above 1"),
    ],
)
def test_a_wrong_option_has_a_line(option: list[str], line: str):
    with pytest.raises(UserError, match=line):
        CliRunner().invoke(app, ["replay", str(CURVES), *option], catch_exceptions=False)


def test_recipes_without_a_number_in_a_field_are_the_farthest_from_those_with_one():
    """In a mixed space, only pretrained models have `unfrozen`."""
    space = parse_space(
        {
            "model": ["baseline_cnn", "mobilenet_v2"],
            "unfrozen": {"int": [0, 4], "when": {"model": "mobilenet_v2"}},
        },
        name="mixed",
        source="mixed.yaml",
        folder=Path(),
    )
    cnn, head = Recipe(), Recipe(model="mobilenet_v2", unfrozen=0)
    blocks = head.replace(unfrozen=4)
    nearness = Nearness(space, [cnn, head, blocks])
    assert nearness.distances(head.to_dict()).tolist() == [3.0, 0.0, 1.0]
    assert nearness.distances(cnn.to_dict()).tolist()[0] == 0.0
