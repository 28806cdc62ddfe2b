import math
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest

from spaces.dimensions import Choice, FloatRange, IntRange, parse_dimension
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from spaces.space_file import load_space, parse_space, shipped_spaces
from spaces.suggesters import RandomTrial


def space_of(content: dict[str, Any]) -> SearchSpace:
    return parse_space(content, name="test", source="test.yaml", folder=Path("/spaces"))


def drawn_from(space: SearchSpace, count: int = 200, seed: int = 1) -> list[Recipe]:
    trial = RandomTrial(seed)
    return [space.suggest(trial) for _ in range(count)]


def asked_of_optuna(space: SearchSpace, count: int = 30) -> list[Recipe]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    return [space.suggest(study.ask()) for _ in range(count)]


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.parametrize("name", shipped_spaces())
def test_shipped_spaces_draw_recipes_that_differ(name: str):
    space = load_space(name)
    for recipes in (drawn_from(space), asked_of_optuna(space)):
        assert len({recipe.key for recipe in recipes}) > 0.9 * len(recipes)


@pytest.mark.parametrize("name", shipped_spaces())
def test_what_is_drawn_from_a_shipped_space_lies_inside_it(name: str):
    space = load_space(name)
    for recipe in drawn_from(space):
        values = recipe.to_dict()
        for field, rule in space.rules.items():
            if rule.holds(values):
                assert rule.dimension.contains(values[field])
            else:
                assert values[field] == getattr(Recipe(), field)


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("learning_rate", {"log": [1e-5, 1e-1]}),
        ("weight_decay", {"float": [0.0, 0.1]}),
        ("label_smoothing", {"float": [0.0, 0.3], "step": 0.1}),
        ("label_smoothing", {"float": [0.1, 0.7], "step": 0.2}),
        ("width", {"int": [1, 3]}),
        ("unfrozen", {"int": [0, 8]}),
        ("batch_size", {"int": [16, 64], "step": 16}),
        ("epochs", {"log": [1, 50]}),
        ("batch_size", [16, 32]),
        ("unfrozen", [None, 0, 4]),
        ("batch_norm", [False, True]),
        ("epochs", 3),
        ("epochs", {"int": [4, 4]}),
        ("learning_rate", {"log": [1e-3, 1e-3]}),
        ("seed", {"int": [0, 2**32 - 1]}),
    ],
)
def test_draws_stay_inside_and_reach_both_ends_of_what_is_small(field: str, written: Any):
    space = space_of({field: written})
    dimension = space.rules[field].dimension
    drawn = [getattr(recipe, field) for recipe in drawn_from(space, 600)]
    asked = [getattr(recipe, field) for recipe in asked_of_optuna(space)]
    assert all(dimension.contains(value) for value in drawn + asked)
    if len(set(drawn)) < 10:
        assert set(dimension.extremes) <= set(drawn)


def test_a_log_range_gives_every_magnitude_its_share():
    space = space_of({"learning_rate": {"log": [1e-5, 1e-1]}, "epochs": {"log": [1, 10_000]}})
    recipes = drawn_from(space, 2000)
    for field, low in (("learning_rate", 1e-5), ("epochs", 1)):
        magnitudes = [math.floor(math.log10(getattr(recipe, field) / low)) for recipe in recipes]
        shares = Counter(min(magnitude, 3) for magnitude in magnitudes)
        assert all(400 < shares[magnitude] < 600 for magnitude in range(4))


def test_the_same_seed_draws_the_same_recipes():
    space = load_space("animals")
    assert drawn_from(space, 20, seed=5) == drawn_from(space, 20, seed=5)
    assert drawn_from(space, 20, seed=5) != drawn_from(space, 20, seed=6)


def test_a_field_whose_condition_does_not_hold_has_its_default():
    space = space_of(
        {
            "model": ["baseline_cnn", "mobilenet_v2"],
            "weights": {"fixed": "imagenet", "when": {"model": "mobilenet_v2"}},
            "unfrozen": {"int": [1, 4], "when": {"weights": "imagenet"}},
        }
    )
    seen = {(recipe.model, recipe.weights, recipe.unfrozen) for recipe in drawn_from(space)}
    assert seen == {("baseline_cnn", "none", None)} | {
        ("mobilenet_v2", "imagenet", blocks) for blocks in range(1, 5)
    }


def test_a_condition_may_name_a_field_without_a_line_by_its_default():
    space = space_of({"unfrozen": {"int": [1, 4], "when": {"model": "baseline_cnn", "seed": 0}}})
    assert {recipe.unfrozen for recipe in drawn_from(space)} == {1, 2, 3, 4}


def test_a_condition_may_ask_for_the_default_of_a_field_that_is_conditional_itself():
    space = space_of(
        {
            "batch_norm": [False, True],
            "residual": {"fixed": True, "when": {"batch_norm": True}},
            "epochs": {"fixed": 3, "when": {"residual": False}},
        }
    )
    seen = {(recipe.batch_norm, recipe.residual, recipe.epochs) for recipe in drawn_from(space)}
    assert seen == {(False, False, 3), (True, True, 10)}


def test_all_conditions_have_to_hold_and_any_of_the_values_listed():
    space = space_of(
        {
            "batch_norm": [False, True],
            "optimizer": ["adam", "sgd", "rmsprop"],
            "epochs": {"fixed": 3, "when": {"batch_norm": True, "optimizer": ["adam", "sgd"]}},
        }
    )
    for recipe in drawn_from(space):
        assert (recipe.epochs == 3) == (recipe.batch_norm and recipe.optimizer != "rmsprop")


def test_one_is_not_true_and_zero_not_false():
    assert not Choice(values=(False, True)).contains(1)
    assert not IntRange(low=0, high=1).contains(True)
    assert not FloatRange(low=0.0, high=1.0).contains(True)
    assert Choice(values=(0, 1)).contains(1)


def test_steps_start_at_the_low_end():
    dimension = parse_dimension({"int": [3, 9], "step": 3}, whole=True)
    assert [value for value in range(12) if dimension.contains(value)] == [3, 6, 9]
    dimension = parse_dimension({"float": [0.1, 0.7], "step": 0.2}, whole=False)
    assert [dimension.contains(value) for value in (0.1, 0.1 + 2 * 0.2, 0.6, 0.2)] == [
        *(True, True, False, False)
    ]


@pytest.mark.parametrize("name", shipped_spaces())
def test_parameters_of_a_recipe_draw_it_again(name: str):
    space = load_space(name)
    study = optuna.create_study()
    for recipe in drawn_from(space, 30):
        study.enqueue_trial(space.params_of(recipe))
        assert space.suggest(study.ask()) == recipe


def test_parameters_of_a_recipe_leave_out_what_lies_outside():
    space = space_of(
        {
            "model": ["baseline_cnn", "mobilenet_v2"],
            "batch_norm": {"choices": [False, True], "when": {"model": "baseline_cnn"}},
            "input_size": {"int": [64, 128], "step": 32},
            "learning_rate": {"log": [1e-4, 1e-2]},
            "epochs": 5,
        }
    )
    inside = Recipe(batch_norm=True, input_size=96, learning_rate=1e-4, epochs=5)
    assert space.params_of(inside) == {
        "model": "baseline_cnn",
        "batch_norm": True,
        "input_size": 96,
        "learning_rate": 1e-4,
    }
    outside = Recipe(model="resnet18", input_size=112, learning_rate=0.5, epochs=7)
    assert space.params_of(outside) == {}
    assert space.params_of(outside.replace(model="mobilenet_v2")) == {"model": "mobilenet_v2"}


def shuffled(content: dict[str, Any], order: int) -> dict[str, Any]:
    def turned(items: list[Any]) -> list[Any]:
        return items[order:][::-1] + items[:order]

    return {
        field: {key: turned_when(value, turned) for key, value in turned(list(line.items()))}
        if isinstance(line, dict)
        else line
        for field, line in turned(list(content.items()))
    }


def turned_when(value: Any, turned: Any) -> Any:
    return dict(turned(list(value.items()))) if isinstance(value, dict) else value


@pytest.mark.parametrize("order", range(6))
def test_the_order_of_lines_changes_nothing(order: int):
    content = {
        "model": {
            "choices": ["baseline_cnn", "mobilenet_v2"],
            "when": {"scheduler": ["step", "cosine"], "augment": "light"},
        },
        "unfrozen": {"int": [1, 8], "when": {"model": "mobilenet_v2", "optimizer": "sgd"}},
        "augment": ["none", "light"],
        "optimizer": ["adam", "sgd"],
        "scheduler": ["constant", "step", "cosine"],
        "learning_rate": {"log": [1e-4, 1e-2]},
    }
    one, other = space_of(content), space_of(shuffled(content, order))
    assert list(one.rules) == list(other.rules)
    assert one.digest == other.digest
    assert asked_of_optuna(one) == asked_of_optuna(other)


def test_the_digest_tells_spaces_apart_and_does_not_change():
    one = space_of({"epochs": [1, 2]})
    assert one.digest == space_of({"epochs": [1, 2]}).digest == "56bca88b733d6ac2"
    for other in ({"epochs": [2, 1]}, {"epochs": [1, 3]}, {"epochs": {"int": [1, 2]}}, {}):
        assert space_of(other).digest != one.digest


def test_the_values_of_a_field_are_its_extremes_its_default_and_those_to_be_tried_first():
    space = space_of(
        {
            "input_size": {"int": [64, 96]},
            "width": {"choices": [0.5, 0.25], "when": {"input_size": 64}},
            "enqueue": [{"input_size": 224}, {"input_size": 64}],
        }
    )
    assert space.values_of("input_size") == (224, 64, 96)
    assert space.values_of("width") == (1.0, 0.5, 0.25)
    assert space.values_of("epochs") == (10,)


def test_the_largest_value_of_a_field_is_that_of_recipes_alike():
    space = space_of(
        {
            "model": ["baseline_cnn", "mobilenet_v2", "resnet18"],
            "unfrozen": {"int": [0, 8], "when": {"model": ["mobilenet_v2", "resnet18"]}},
            "enqueue": [{"model": "resnet18", "unfrozen": 9}, {"model": "baseline_cnn"}],
        }
    )
    largest = {
        model: space.largest("unfrozen", Recipe(model=model))
        for model in ("baseline_cnn", "mobilenet_v2", "resnet18")
    }
    assert largest == {"baseline_cnn": None, "mobilenet_v2": 8, "resnet18": 9}
    choice = space_of({"model": "resnet18", "unfrozen": {"choices": [None, 2, 5]}})
    assert choice.largest("unfrozen", Recipe(model="resnet18")) == 5
