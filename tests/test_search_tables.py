"""Tables of others: folders with a table.yaml, replayed with the search's own decisions."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from search.cli import app
from search.decisions.budget import Budget
from search.decisions.ledger import open_ledger
from search.decisions.proposals import Proposals
from search.decisions.stopping_rules import EarlyStoppingSettings, build_stopping_rule
from search.simulation.comparison import default_pairs
from search.simulation.pool import Pool
from search.simulation.reading import read_benchmark
from search.simulation.simulator import SimulationSettings, simulate
from search.simulation.table_recipe import table_recipe
from search.simulation.tabular_benchmark import TabularBenchmark
from spaces.errors import UserError
from spaces.suggesters import RandomTrial
from spaces.yaml_files import write_yaml

TABLES = Path(__file__).resolve().parents[2] / "shared" / "tables"
OTHERS = sorted(TABLES.glob("quicktune-*"))
NUM_TRIALS, NUM_EPOCHS = 24, 6


def write_table(folder: Path, **changes: Any) -> Path:
    """A table of 24 recipes. Wider networks cost more, and learn more at a middling rate.

    changes: of the keys of table.yaml.
    """
    random = np.random.default_rng(0)
    width = random.choice([8, 16, 32, 64], NUM_TRIALS)
    rate = 10 ** random.uniform(-4, -1, NUM_TRIALS)
    schedule = random.choice(["multistep", "warm cosine"], NUM_TRIALS)
    momentum = np.where(np.arange(NUM_TRIALS) % 3 == 0, np.nan, random.uniform(0, 0.9, NUM_TRIALS))
    augment = [None if index % 4 == 0 else "mixup" for index in range(NUM_TRIALS)]
    written = {
        "name": "mlp",
        "source": "made up",
        "objectives": {"accuracy": "max", "gflops": "min"},
        "epochs": NUM_EPOCHS,
        "dimensions": {
            "width": {"int": [8, 64]},
            "rate": {"log": [1e-4, 1e-1]},
            "scheduler": {"choices": ["multistep", "warm cosine"]},
            "momentum": {"float": [0.0, 0.9]},
            "augment": {"choices": ["mixup"]},
        },
    }
    trials = {"trial": range(NUM_TRIALS), "width": width, "rate": rate, "scheduler": schedule}
    trials |= {"momentum": momentum, "augment": augment, "gflops": width / 10.0}
    best = 0.4 + 0.1 * np.log2(width / 8) - 0.1 * np.abs(np.log10(rate) + 2.5)
    epochs = [
        {"trial": trial, "epoch": epoch, "accuracy": best[trial] * (1 - 0.6**epoch), "seconds": 2.0}
        for trial in range(NUM_TRIALS)
        for epoch in range(1, NUM_EPOCHS + 1)
    ]
    folder.mkdir()
    (folder / "table.yaml").write_text(write_yaml({**written, **changes}))
    pd.DataFrame(trials).to_parquet(folder / "trials.parquet")
    pd.DataFrame(epochs).to_parquet(folder / "epochs.parquet")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_table(tmp_path / "mlp")


@pytest.fixture
def table(folder: Path) -> TabularBenchmark:
    return read_benchmark(folder)


def settings(trials: int, sampler: str = "random", stopping: str = "none") -> SimulationSettings:
    rule = EarlyStoppingSettings(name=stopping)
    return SimulationSettings(sampler=sampler, early_stopping=rule, budget=Budget(trials=trials))


def test_a_table_is_read_as_it_is_written(table: TabularBenchmark, folder: Path):
    assert (table.name, len(table.trials)) == ("mlp", NUM_TRIALS)
    first, second = (trial.recipe.to_dict() for trial in table.trials[:2])
    assert first["augment"] is None
    assert second["augment"] == "mixup"
    assert first["momentum"] is None
    assert first["with momentum"] is False
    assert 0 <= second["momentum"] <= 0.9
    assert (first["epochs"], first["seed"]) == (NUM_EPOCHS, 0)
    assert table.trials[0].recipe.scheduler == first["scheduler"]
    costs = pd.read_parquet(folder / "trials.parquet")["gflops"]
    assert [trial.cost.gflops for trial in table.trials] == costs.tolist()
    assert table.effort(table.trials[3].recipe) == costs[3]
    assert table.seconds == 2.0 * NUM_TRIALS * NUM_EPOCHS


def test_the_space_draws_all_kinds_of_dimensions(table: TabularBenchmark):
    trial = RandomTrial(0)
    drawn = [table.space.suggest(trial).to_dict() for _ in range(200)]
    assert {values["augment"] for values in drawn} == {None, "mixup"}
    assert all((values["momentum"] is None) != values["with momentum"] for values in drawn)
    assert {type(values["width"]) for values in drawn} == {int}
    assert len({values["rate"] for values in drawn}) == 200


def test_equal_values_have_equal_keys_whatever_the_order():
    one = table_recipe({"a": 1, "float_epochs": None}, epochs=3)
    same = table_recipe({"float_epochs": None, "a": 1}, epochs=3)
    assert (one.key, hash(one)) == (same.key, hash(same))
    others = [one.replace(a=2), one.replace(seed=1), one.replace(epochs=4)]
    others.append(one.replace(float_epochs=2))
    assert len({one.key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize(("sampler", "stopping"), [*default_pairs(), ("nsga2", "pareto")])
def test_every_sampler_and_rule_searches_it(table: TabularBenchmark, sampler: str, stopping: str):
    trials = 12 if sampler == "gp" else 30  # a proposal of gp takes a second
    one, two = (simulate(table, settings(trials, sampler, stopping)) for _ in range(2))
    assert one.counts["FAIL"] == 0
    assert sum(one.counts.values()) == trials
    assert one.growth == two.growth
    if stopping == "none" and trials > NUM_TRIALS:
        assert one.growth[-1].hypervolume == pytest.approx(1.0)


@pytest.mark.parametrize("metric", ["macro_f1", "recall:great dane"])
@pytest.mark.parametrize(("sampler", "stopping"), [*default_pairs(), ("nsga2", "pareto")])
def test_every_sampler_and_rule_decides_by_the_metric_of_the_study(
    tmp_path: Path, sampler: str, stopping: str, metric: str
):
    """The same curves under another name, beside an accuracy that says the opposite."""
    objectives = {metric: "max", "gflops": "min"}
    plain, named = write_table(tmp_path / "a"), write_table(tmp_path / "b", objectives=objectives)
    epochs = pd.read_parquet(named / "epochs.parquet").rename(columns={"accuracy": metric})
    epochs.assign(accuracy=1 - epochs[metric]).to_parquet(named / "epochs.parquet")
    trials = 8 if sampler == "gp" else 20
    one, two = (
        simulate(read_benchmark(folder), settings(trials, sampler, stopping))
        for folder in (plain, named)
    )
    assert one.growth == two.growth
    assert (one.counts, one.worker_seconds) == (two.counts, two.worker_seconds)


def test_a_ledger_of_a_real_search_takes_its_recipes(table: TabularBenchmark):
    """Without the simulator: proposed, stopped at a rung, complete, and told to Optuna."""
    study = optuna.create_study(directions=table.objectives.optuna_directions)
    proposals = Proposals(space=table.space, objectives=table.objectives, sampler="tpe", seed=0)
    ledger = open_ledger(
        study,
        proposals,
        rule=build_stopping_rule(EarlyStoppingSettings(name="asha"), table.objectives),
        measure=lambda recipe: table.trials[0].cost,
    )
    for trial in table.trials:
        record = ledger.propose()
        assert record is not None
        for metrics in trial.epochs:
            ledger.report(record.number, [metrics])
        if record.state == TrialState.RUNNING:
            ledger.complete(record.number)
    states = {trial.state for trial in study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}


def test_what_is_left_are_the_recipes_used_least(table: TabularBenchmark):
    pool = Pool(table)
    recipes = [trial.recipe for trial in table.trials]
    assert pool.left() == recipes
    assert pool.nearest(recipes[5].to_dict()) == recipes[5]
    assert pool.take(recipes[5]) == recipes[5]
    assert pool.left() == [*recipes[:5], *recipes[6:]]
    for recipe in pool.left():
        pool.take(recipe)
    assert pool.left() == recipes
    assert pool.take(recipes[5]) == recipes[5].replace(seed=1)
    assert pool.find(recipes[5].replace(seed=1)) == table.trials[5]


def test_of_equal_rows_the_first_one_counts(folder: Path):
    trials = pd.read_parquet(folder / "trials.parquet")
    columns = [name for name in trials if name not in ("trial", "gflops")]
    trials.loc[1, columns] = trials.loc[0, columns]
    trials.to_parquet(folder / "trials.parquet")
    assert len(read_benchmark(folder).trials) == NUM_TRIALS - 1


def test_columns_in_single_precision_reach_the_ends_of_a_range(folder: Path):
    trials = pd.read_parquet(folder / "trials.parquet")
    trials.loc[0, "rate"], trials.loc[1, "rate"] = 1e-4, 1e-1
    trials.assign(rate=trials["rate"].astype("float32")).to_parquet(folder / "trials.parquet")
    rates = [trial.recipe.to_dict()["rate"] for trial in read_benchmark(folder).trials[:2]]
    assert rates == [1e-4, 1e-1]


def test_whole_numbers_in_a_range_of_floats_are_found_again(tmp_path: Path):
    dimensions = {"width": {"float": [8, 64]}, "rate": {"log": [1e-4, 1e-1]}}
    folder = write_table(tmp_path / "mlp", dimensions=dimensions)
    kept = ["trial", "width", "rate", "gflops"]
    edited("trials", lambda rows: rows[kept])(folder)
    done = simulate(read_benchmark(folder), settings(NUM_TRIALS, "tpe"))
    assert done.counts["COMPLETE"] == NUM_TRIALS


def edited(name: str, change: Callable[[pd.DataFrame], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / f"{name}.parquet"
        change(pd.read_parquet(path)).to_parquet(path)

    return edit


def cell(column: str, value: Any) -> Callable[[pd.DataFrame], Any]:
    """Write a value into the third row of a column."""
    return lambda rows: rows.assign(
        **{column: [*rows[column][:2], value, *rows[column][3:]]}  # so that its type may change
    )


def keep_five(folder: Path) -> None:
    for name in ("trials", "epochs"):
        edited(name, lambda rows: rows[rows["trial"] < 5])(folder)


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return edit


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (write("table.yaml", b"name: [\n"), r"table\.yaml:\d+:\d+: "),
        (write("table.yaml", b"name: x\n"), r"table\.yaml: objectives: required, but not given"),
        (write("trials.parquet", b"PAR1"), r"trials\.parquet: damaged .*; copy it anew"),
        (write("epochs.parquet", b""), r"epochs\.parquet: damaged .*; copy it anew"),
        (
            lambda folder: (folder / "epochs.parquet").unlink(),
            r"epochs\.parquet: there is no such table",
        ),
        (keep_five, r"trials\.parquet: has 5 different recipes; a replay needs at least 10"),
        (edited("trials", lambda rows: rows[:5]), r"trial 5 is not in trials\.parquet; remove its"),
        (
            edited("trials", lambda rows: rows.rename(columns={"gflops": "gflop"})),
            r"trials\.parquet: lacks the columns gflops; did you mean gflop\?",
        ),
        (
            edited("trials", lambda rows: rows.assign(depth=3)),
            r"trials\.parquet: depth: unknown; a column is trial, width, .*table\.yaml",
        ),
        (edited("trials", cell("trial", 0)), r"trial 0 is there twice; number the trials anew"),
        (edited("trials", cell("trial", 2.5)), r"trial should hold whole numbers, not 2\.5"),
        (
            edited("trials", cell("rate", 2.0)),
            r"trials\.parquet: trial 2: rate: 2\.0 is not in this dimension of table\.yaml; widen",
        ),
        (
            edited("trials", lambda rows: rows.assign(scheduler=[["step"]] * len(rows))),
            r"trial 0: scheduler: .* is not in this dimension",
        ),
        (edited("trials", cell("scheduler", "cosin")), r"trial 2: scheduler: 'cosin' is not in"),
        (edited("trials", cell("width", 8.5)), r"trial 2: width: 8\.5 is not in this dimension"),
        (edited("trials", cell("gflops", np.nan)), r"gflops should hold finite numbers, not nan"),
        (edited("trials", cell("gflops", -1.0)), r"gflops should not be below 0, as -1 is"),
        (
            edited("epochs", lambda rows: rows[:-1]),
            r"epochs\.parquet: trial 23: has 5 of the 6 epochs of table\.yaml, but a replay needs",
        ),
        (edited("epochs", cell("epoch", 2)), r"trial 0: epoch 2 follows epoch 2; each trial needs"),
        (
            edited("epochs", lambda rows: rows.assign(accuracy=100 * rows["accuracy"])),
            r"accuracy should be from 0 to 1, not .*; divide percents by 100",
        ),
        (edited("epochs", cell("accuracy", np.nan)), r"accuracy should hold finite numbers, not n"),
        (
            edited("epochs", lambda rows: rows.assign(accuracy=rows["accuracy"].astype(str))),
            r"accuracy should hold numbers, not '0\.",
        ),
        (edited("epochs", cell("seconds", -1.0)), r"seconds should not be below 0"),
        (edited("epochs", lambda rows: rows.assign(lr=0)), r"epochs\.parquet: lr: unknown; a col"),
        (edited("epochs", cell("trial", 99)), r"trial 0: epoch 4 follows epoch 2|trial 99 is not"),
    ],
)
def test_a_table_that_does_not_fit_has_a_line(
    folder: Path, change: Callable[[Path], None], line: str
):
    change(folder)
    with pytest.raises(UserError, match=line) as error:
        read_benchmark(folder)
    assert len(str(error.value).splitlines()) == 1 or "required" in line
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"objectives": {"accuracy": "max", "watts": "min"}},
            r"objectives: watts is not a number of a trial",
        ),
        ({"objectives": {"accuracy": "max", "params": "min"}}, r"lacks the columns params"),
        ({"epochs": 7}, r"has 6 of the 7 epochs"),
        ({"epochs": 5}, r"epoch 6 follows epoch 5; each trial needs the epochs 1 to 5 once"),
        ({"epochs": 0}, r"table\.yaml: epochs: 0 should be greater than or equal to 1"),
        ({"dimension": {}}, r"table\.yaml: dimension: unknown; did you mean dimensions\?"),
        ({"dimensions": {"rate": {"log": [0, 1]}}}, r"dimensions\.rate: log: low must be above 0"),
        ({"dimensions": {"gflops": {"float": [0, 1]}}}, r"dimensions\.gflops: this name has anoth"),
    ],
)
def test_a_wrong_table_yaml_has_a_line(tmp_path: Path, changes: dict[str, Any], line: str):
    with pytest.raises(UserError, match=line):
        read_benchmark(write_table(tmp_path / "mlp", **changes))


def test_a_folder_of_neither_kind_has_a_line(folder: Path):
    (folder / "table.yaml").unlink()
    with pytest.raises(UserError, match=r"has neither study\.yaml, as a run, nor table\.yaml"):
        read_benchmark(folder)


def test_the_command_has_numbers_for_programs(folder: Path):
    command = ["replay", str(folder), "--seeds", "2", "--trials", "11", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["table"] == "mlp"
    pairs = [(row["sampler"], row["early_stopping"]) for row in content["rows"]]
    assert pairs == default_pairs()
    for row in content["rows"]:
        assert (row["workers"], row["seeds"]) == (4, 2)
        assert list(row["seconds_to"]) == ["0.8", "0.9", "0.95", "0.99"]
        for share, seconds in row["seconds_to"].items():
            assert len(seconds) == 2
            assert row["never"][share] == seconds.count(None)
        for fraction, shares in row["hypervolume_at"].items():
            over, under = fraction.split("/")
            whole = 2.0 * NUM_TRIALS * NUM_EPOCHS / 4
            assert row["budgets"][fraction] == pytest.approx(whole * int(over) / int(under))
            assert all(0 <= share <= 1 for share in shares)


def test_named_pairs_are_all_compared_and_the_default_comes_first(folder: Path):
    command = ["replay", str(folder / "table.yaml"), "--seeds", "1", "--trials", "5", "--json"]
    for option in ("--stopping", "--early-stopping"):
        named = ["--sampler", "random", "--sampler", default_pairs()[0][0]]
        named += [option, "none", option, default_pairs()[0][1]]
        rows = json.loads(CliRunner().invoke(app, [*command, *named]).stdout)["rows"]
        pairs = [(row["sampler"], row["early_stopping"]) for row in rows]
        assert pairs[0] == default_pairs()[0]
        assert len(set(pairs)) == 4
        assert all(row["trials"] == 5 for row in rows)


@pytest.mark.skipif(not OTHERS, reason="no tables of others beside this folder")
def test_published_tables_are_read_and_searched(tmp_path: Path):
    for folder in OTHERS:
        assert len(read_benchmark(folder).trials) >= 90
    copied = shutil.copytree(OTHERS[0], tmp_path / "copied", copy_function=shutil.copyfile)
    table = read_benchmark(copied)
    assert table.losses.tolist() == read_benchmark(OTHERS[0]).losses.tolist()
    done = simulate(table, settings(60, "tpe", "pareto"))
    assert done.counts["PRUNED"] > done.counts["COMPLETE"] > 0
    assert done.growth[-1].hypervolume > 0.5
