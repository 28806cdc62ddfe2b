from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from searches import ONE_WORKER, SPACE, write_study

from search.decisions.samplers import build_sampler
from search.decisions.startup_trials import StartupTrials
from search.engine import run_search
from search.study.study import load_study
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.space_file import parse_space
from trainables.costing.training_cost import share_of_training
from trainables.data.dataset import ImageData

DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
SPACE_OF_BLOCKS = {
    "model": "mobilenet_v2",
    "weights": "none",
    "input_size": [64, 96],
    "unfrozen": {"int": [0, 8]},
    "learning_rate": {"log": [1.0e-4, 1.0e-2]},
    "epochs": 3,
}
effort = partial(share_of_training, num_classes=10)


def space_of(written):
    return parse_space(written, name="test", source="a test", folder=Path())


def sampler_of(name: str, number: int) -> BaseSampler:
    return build_sampler(name, seed=3, trial_number=number)


def drawn(space, of, count: int) -> list[Recipe]:
    """What a study's trials are, as long as none of them ends."""
    study = optuna.create_study(directions=DIRECTIONS)
    recipes = []
    for number in range(count):
        study.sampler = of(number)
        recipes.append(space.suggest(study.ask()))
    return recipes


@pytest.mark.parametrize("name", ["tpe", "random", "nsga2"])
def test_the_first_trials_are_those_that_would_be_drawn_anyway_the_quickest_first(name: str):
    space = space_of(SPACE_OF_BLOCKS)
    plain = partial(sampler_of, name)
    first = StartupTrials(space, DIRECTIONS, sampler_of=plain, effort=effort)
    before, now = drawn(space, plain, 12), drawn(space, first.sampler_of, 12)
    assert sorted(map(str, now[:10])) == sorted(map(str, before[:10]))
    efforts = [effort(recipe) for recipe in now[:10]]
    assert efforts == sorted(efforts)
    assert efforts[-1] > 10 * efforts[0]
    if name == "random":
        assert now[10:] == before[10:]


def test_a_short_search_sees_what_it_would_see_anyway():
    space = space_of(SPACE_OF_BLOCKS)
    plain = partial(sampler_of, "random")
    first = StartupTrials(space, DIRECTIONS, sampler_of=plain, effort=effort, num_trials=6)
    before, now = drawn(space, plain, 6), drawn(space, first.sampler_of, 6)
    assert now == sorted(before, key=effort)


def test_frozen_blocks_take_nothing_but_where_images_change():
    head = Recipe(model="mobilenet_v2", weights="none", unfrozen=0, input_size=96)
    some, augmented = head.replace(unfrozen=8), head.replace(augment="light")
    everything = head.replace(unfrozen=None)
    assert 100 * effort(head) < effort(some) < effort(everything) == 1
    assert effort(augmented) == pytest.approx(1 / 3, abs=0.01)  # forward alone


def test_what_can_not_train_goes_last():
    space = space_of(SPACE_OF_BLOCKS)

    def fails_with_many_blocks(recipe: Recipe) -> float:
        if recipe.unfrozen and recipe.unfrozen > 2:
            raise UserError("too many")
        return 1.0

    of = partial(sampler_of, "random")
    first = StartupTrials(space, DIRECTIONS, sampler_of=of, effort=fails_with_many_blocks)
    blocks = [recipe.unfrozen or 0 for recipe in drawn(space, first.sampler_of, 10)]
    assert [number > 2 for number in blocks] == sorted(number > 2 for number in blocks)


def test_a_search_begins_with_what_has_most_frozen(
    two_workers: None, demo_data: ImageData, tmp_path: Path
):
    space = {**SPACE, "unfrozen": {"int": [0, 4]}}
    path = write_study(
        tmp_path,
        demo_data,
        space=space,
        sampler={"name": "tpe"},
        early_stopping={"name": "pareto"},
        resources=ONE_WORKER,
        dominated="keep",
    )
    study = load_study(path)
    ledger = run_search(study).ledger
    recipes = [record.recipe for record in ledger.records.values()]
    efforts = [share_of_training(recipe, len(demo_data.classes)) for recipe in recipes if recipe]
    assert len(efforts) >= 4
    assert efforts == sorted(efforts)
