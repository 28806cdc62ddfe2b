import itertools

import pytest

from spaces.errors import UserError
from spaces.recipe import RECIPE_FIELDS, Recipe
from spaces.recipe_diff import ORDER, find_differences, starting_point
from spaces.space_file import load_space
from spaces.suggesters import RandomTrial

LADDER = load_space("ladder").enqueue


def differing(one, other):
    return {field for field in RECIPE_FIELDS if getattr(one, field) != getattr(other, field)}


def fits(recipe):
    """As of a MobileNetV2's weights file, and of few blocks of the baseline."""
    if recipe.weights != "none" and recipe.model != "mobilenet_v2":
        return False
    return recipe.model != "baseline_cnn" or (recipe.unfrozen or 0) <= 5


def test_the_ladder_is_climbed_as_it_was_by_hand():
    found = find_differences(LADDER[0], LADDER[3])
    assert found.fields == (("batch_size",), ("batch_norm",), ("learning_rate",))
    assert [variant.recipe for variant in found.cumulative()] == list(LADDER[:4])
    steps = [variant.on for variant in found.cumulative()]
    assert steps == [(False,) * 3, (True, False, False), (True, True, False), (True,) * 3]


def test_the_whole_without_one_keeps_all_others():
    found = find_differences(LADDER[0], LADDER[3])
    without = found.leave_one_out()
    assert [variant.on.count(False) for variant in without] == [1, 1, 1]
    for index, variant in enumerate(without):
        assert not variant.on[index]
        assert differing(variant.recipe, LADDER[3]) == set(found.fields[index])


def test_quantisation_and_its_epochs_in_float_are_one_difference():
    full = Recipe(qat=True, float_epochs=2, batch_size=64)
    assert find_differences(Recipe(), full).fields == (("batch_size",), ("qat", "float_epochs"))
    alone = find_differences(Recipe(), full.replace(float_epochs=None))
    assert alone.fields == (("batch_size",), ("qat",))


def test_imagenet_weights_are_one_difference_with_their_model():
    full = Recipe(model="mobilenet_v2", weights="imagenet", unfrozen=2, scheduler="cosine")
    found = find_differences(Recipe(), full)
    assert found.fields == (("model", "weights"), ("unfrozen",), ("scheduler",))


@pytest.mark.parametrize(
    ("unfrozen", "fields"),
    [(2, (("model", "weights"), ("unfrozen",))), (12, (("model", "weights", "unfrozen"),))],
)
def test_what_only_works_together_is_one_difference(unfrozen, fields):
    full = Recipe(model="mobilenet_v2", weights="/some/file.pt", unfrozen=unfrozen)
    found = find_differences(Recipe(), full, fits)
    assert found.fields == fields


def test_switches_of_the_baseline_are_turned_on_before_it_is_left():
    start = Recipe(batch_norm=True, residual=True)
    found = find_differences(start, Recipe(model="resnet18", learning_rate=1e-4))
    assert set(itertools.chain(*found.fields)) == {
        *("batch_norm", "residual", "model", "learning_rate")
    }
    for variant in (*found.cumulative(), *found.leave_one_out()):
        assert variant.recipe.model == "baseline_cnn" or not variant.recipe.batch_norm


@pytest.mark.parametrize("seed", range(12))
def test_of_any_two_recipes_every_recipe_in_between_works(seed):
    draw = RandomTrial(seed=seed)
    space = load_space("animals")
    one, other = space.suggest(draw), space.suggest(draw)
    start = one.replace(epochs=other.epochs, seed=other.seed)
    found = find_differences(start, other, fits if fits(start) and fits(other) else bool)
    fields = list(itertools.chain(*found.fields))
    assert len(fields) == len(set(fields))
    assert set(fields) == differing(start, other)
    firsts = [min(map(ORDER.index, group)) for group in found.fields]
    assert firsts == sorted(firsts)
    assert found.cumulative()[0].recipe == start
    assert found.cumulative()[-1].recipe == other
    assert {variant.recipe.epochs for variant in found.cumulative()} == {other.epochs}


@pytest.mark.parametrize("name", ["default", "ladder"])
def test_a_starting_point_has_the_budget_and_the_seed_of_the_other(name):
    full = Recipe(epochs=4, seed=9, input_size=64, batch_size=64)
    start = starting_point(name, full, largest_input=224)
    assert (start.epochs, start.seed, start.input_size) == (4, 9, 112)
    assert start.batch_size == (32 if name == "default" else 16)


def test_a_starting_point_is_no_larger_than_the_data():
    full = Recipe(input_size=64, batch_size=64)
    start = starting_point("default", full, largest_input=96)
    assert find_differences(start, full).fields == (("batch_size",),)


def test_a_recipe_that_is_its_starting_point_has_nothing_to_turn_off():
    with pytest.raises(UserError, match="nothing differs"):
        find_differences(Recipe(), Recipe())
