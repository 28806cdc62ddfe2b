"""`flopwise ablate`, from a small search to what each difference is worth."""

import json
from pathlib import Path

import pytest
from searches import ONE_WORKER, SPACE, write_study

from analysis.results.ablation import ablation_records
from analysis.runs import read_run, run_recipe
from search.engine import run_search
from search.followups.ablate import ablate, recall_ablations
from search.study.study import load_study
from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.data.dataset import ImageData

RECIPE = {
    **SPACE,
    **{"input_size": 48, "width": 1.0, "batch_size": 16, "batch_norm": True},
    **{"learning_rate": 3e-3, "epochs": 1, "unfrozen": 1},
}


@pytest.fixture(scope="module")
def run(two_workers: None, demo_data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of one recipe, a baseline CNN whose last block trains."""
    path = write_study(
        tmp_path_factory.mktemp("ablate"),
        demo_data,
        space=RECIPE,
        resources=ONE_WORKER,
        budget={"trials": 1},
    )
    return run_search(load_study(path)).folder


def test_every_variant_is_trained_with_every_seed_once(two_workers: None, run: Path):
    found = ablate(run, "0", "ladder", seeds=2)
    # The data holds 64 px, so that the ladder's 112 px are no difference.
    assert found.differences == (("batch_norm",), ("learning_rate",), ("unfrozen",))
    folder = run / "ablate" / "trial-0-against-ladder"
    trials = read_run(folder).trials
    recipes = [run_recipe(row) for _, row in trials.iterrows()]
    # 4 steps and 3 without one, of which the last is a step too.
    assert len(recipes) == len(set(recipes)) == (4 + 2) * 2
    assert {recipe.epochs for recipe in recipes} == {1}
    seeds = {recipe.seed for recipe in recipes}
    assert len(seeds) == 2
    assert 0 not in seeds  # the search's
    accuracies = dict(zip(recipes, trials["accuracy"], strict=True))
    for row in (*found.cumulative, *found.leave_one_out):
        on = [field for index, on in enumerate(row.on) if on for field in found.differences[index]]
        recipe = found.start.replace(**{field: getattr(found.full, field) for field in on})
        of_seeds = {accuracies[recipe.replace(seed=seed)] for seed in seeds}
        assert set(row.accuracies) == of_seeds
    assert found.cumulative[0].on == (False, False, False)
    assert found.cumulative[-1].on == (True, True, True)
    before = (folder / "trials.parquet").read_bytes()
    again = ablate(run, "0", "ladder", seeds=2)
    assert (folder / "trials.parquet").read_bytes() == before
    assert [list(row.accuracies) for row in again.cumulative] == [
        list(row.accuracies) for row in found.cumulative
    ]


def test_what_an_ablation_came_to_is_kept(two_workers: None, run: Path):
    found = ablate(run, "0", "ladder", seeds=2)
    (recalled,) = recall_ablations(read_run(run))
    assert ablation_records(recalled) == ablation_records(found)
    path = run / "ablate" / "trial-0-against-ladder.json"
    content = path.read_text()
    path.write_text(content[:100])
    with pytest.raises(UserError, match=r"trial-0-against-ladder\.json: damaged"):
        recall_ablations(read_run(run))
    path.write_text(content)


def test_another_starting_point_trains_only_what_is_new(two_workers: None, run: Path):
    ablate(run, "0", "ladder", seeds=2)
    found = ablate(run, "most-accurate", "default", seeds=2)
    assert found.start == Recipe(epochs=1, input_size=48)
    assert ("batch_size",) in found.differences
    ladder = {run_recipe(row) for _, row in _trials(run, "trial-0-against-ladder")}
    default = {run_recipe(row) for _, row in _trials(run, "trial-0-against-default")}
    assert not ladder.intersection(default)
    whole = found.full.replace(seed=next(iter(ladder)).seed)
    assert whole in ladder


def _trials(run: Path, name: str):
    return read_run(run / "ablate" / name).trials.iterrows()


def test_the_command_prints_the_table_and_draws_it(two_workers: None, flopwise, run: Path):
    words = ("ablate", run, "--trial", 0, "--against", "ladder", "--seeds", 2)
    code, message, complaint = flopwise(*words)
    assert code == 0, complaint
    assert "starting point (ladder)" in message
    assert "= trial 0" in message
    assert "±" in message
    assert (run / "ablate" / "trial-0-against-ladder.png").stat().st_size > 5_000
    found = json.loads(flopwise(*words, "--json")[1])
    assert [row["on"].count(True) for row in found["climb"]] == [0, 1, 2, 3]
    assert [row["on"].count(True) for row in found["without_one"]] == [2, 2, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "--trial", "7"], "trial 7: not in"),
        (["{run}", "--trial", "knees"], "did you mean knee?"),
        (["{run}", "--trial", "0", "--seeds", "1"], "--seeds: 1 can't show the spread"),
        (["{tmp}/nothing", "--trial", "0"], "there is no such run folder"),
    ],
)
def test_mistakes_are_told_in_a_line_with_exit_code_2(
    flopwise, run: Path, tmp_path: Path, words: list[str], message: str
):
    filled = (word.format(run=run, tmp=tmp_path) for word in words)
    code, _, complaint = flopwise("ablate", *filled, "--against", "default")
    assert code == 2
    assert message in complaint
    assert len(complaint.splitlines()) == 1
