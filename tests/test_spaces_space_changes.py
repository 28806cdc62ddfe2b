"""Whether a space only became wider: every recipe of before lies in it."""

from pathlib import Path
from typing import Any

import pytest

from spaces.errors import UserError
from spaces.space import SearchSpace
from spaces.space_changes import space_changes
from spaces.space_file import parse_space
from spaces.suggesters import RandomTrial

BEFORE: dict[str, Any] = {
    "model": ["baseline_cnn", "mobilenet_v2"],
    "input_size": {"int": [48, 96], "step": 16},
    "width": {"choices": [0.5, 1.0], "when": {"model": "baseline_cnn"}},
    "weights": {"fixed": "imagenet", "when": {"model": "mobilenet_v2"}},
    "unfrozen": {"int": [0, 4], "when": {"weights": "imagenet"}},
    "learning_rate": {"log": [1e-3, 1e-2]},
    "weight_decay": {"float": [0.0, 0.1]},
    "optimizer": "adam",
    "epochs": 4,
}
WIDER: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a value more": ({"optimizer": ["adam", "sgd"]}, ("optimizer",)),
    "a longer range": ({"learning_rate": {"log": [1e-4, 1e-2]}}, ("learning_rate",)),
    "smaller steps": ({"input_size": {"int": [32, 128], "step": 8}}, ("input_size",)),
    "a range around choices": (
        {"width": {"float": [0.25, 1.0], "when": {"model": "baseline_cnn"}}},
        ("width",),
    ),
    "a new field that may have its default": (
        {"label_smoothing": [0.0, 0.1]},
        ("label_smoothing",),
    ),
    "a default that is written out": ({"batch_size": 32}, ()),
    "a model more, with lines of its own": (
        {
            "model": ["baseline_cnn", "mobilenet_v2", "resnet18"],
            "weights": {"fixed": "imagenet", "when": {"model": ["mobilenet_v2", "resnet18"]}},
        },
        ("model", "weights"),
    ),
    "more epochs to choose from": ({"epochs": {"int": [2, 8]}}, ("epochs",)),
    "a recipe more to try first": ({"enqueue": [{"input_size": 64}]}, ("enqueue",)),
}
OTHER: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a value less": ({"width": {"choices": [1.0], "when": {"model": "baseline_cnn"}}}, ("width",)),
    "a shorter range": ({"learning_rate": {"log": [2e-3, 1e-2]}}, ("learning_rate",)),
    "other steps": ({"input_size": {"int": [40, 104], "step": 16}}, ("input_size",)),
    "a range of another scale": (
        {"learning_rate": {"float": [1e-4, 1e-1]}},
        ("learning_rate",),
    ),
    "a new field without its default": ({"label_smoothing": [0.1, 0.2]}, ("label_smoothing",)),
    "another fixed value": ({"epochs": 8}, ("epochs",)),
    "another seed": ({"seed": 1}, ("seed",)),
    "a condition that no longer holds for some": (
        {
            "width": {
                "choices": [0.5, 1.0],
                "when": {"model": "baseline_cnn", "optimizer": "sgd"},
            },
            "optimizer": ["adam", "sgd"],
        },
        ("width",),
    ),
    "choices in place of a range": ({"weight_decay": [0.0, 0.05, 0.1]}, ("weight_decay",)),
}


def space_of(content: dict[str, Any]) -> SearchSpace:
    return parse_space(content, name="test", source="test.yaml", folder=Path("/"))


@pytest.mark.parametrize("kind", WIDER)
def test_a_space_that_became_wider_has_every_recipe_of_before(kind: str):
    changes, fields = WIDER[kind]
    before, now = space_of(BEFORE), space_of({**BEFORE, **changes})
    found = space_changes(before, now)
    assert found.other == ()
    assert set(found.wider) == set(fields)
    trial = RandomTrial(0)
    assert not any(now.fields_outside(before.suggest(trial)) for _ in range(200))


@pytest.mark.parametrize("kind", OTHER)
def test_a_space_that_lost_recipes_is_another_one(kind: str):
    changes, fields = OTHER[kind]
    found = space_changes(space_of(BEFORE), space_of({**BEFORE, **changes}))
    assert found.other == fields


def test_a_recipe_that_is_no_longer_tried_first_makes_another_space():
    listed = {**BEFORE, "enqueue": [{"input_size": 64}]}
    assert space_changes(space_of(listed), space_of(BEFORE)).other == ("enqueue",)


def test_an_equal_space_has_no_changes_whatever_its_order():
    shuffled = dict(reversed(BEFORE.items()))
    found = space_changes(space_of(BEFORE), space_of(shuffled))
    assert (found.wider, found.other) == ((), ())


def test_whatever_is_called_wider_holds_what_the_earlier_space_draws():
    """Over random pairs of spaces, drawn from what the fields may say."""
    lines: dict[str, list[Any]] = {
        "model": [["baseline_cnn"], ["mobilenet_v2"], ["baseline_cnn", "mobilenet_v2"]],
        "input_size": [64, [64, 96], {"int": [48, 96], "step": 16}, {"int": [48, 96]}],
        "width": [
            1.0,
            {"choices": [0.5, 1.0], "when": {"model": "baseline_cnn"}},
            {"choices": [0.5, 0.75], "when": {"model": "baseline_cnn"}},
            {"float": [0.25, 1.0], "when": {"model": ["baseline_cnn", "mobilenet_v2"]}},
        ],
        "optimizer": ["adam", ["adam", "sgd"], ["sgd"]],
        "learning_rate": [1e-3, {"log": [1e-4, 1e-2]}, {"log": [1e-3, 1e-2]}],
        "weight_decay": [
            {"float": [0.0, 0.1], "when": {"optimizer": "sgd"}},
            {"float": [0.01, 0.1], "when": {"optimizer": "sgd"}},
            {"float": [0.0, 0.2]},
        ],
    }
    trial, spaces = RandomTrial(7), []
    while len(spaces) < 60:
        chosen = {
            field: trial.suggest_categorical(field, [*options, None])
            for field, options in lines.items()
        }
        try:
            spaces.append(space_of({f: line for f, line in chosen.items() if line is not None}))
        except UserError:  # a condition that can't hold
            continue
    num_wider = 0
    for before in spaces:
        recipes = [before.suggest(trial) for _ in range(30)]
        for now in spaces:
            if not space_changes(before, now).other:
                num_wider += before is not now
                assert not any(now.fields_outside(recipe) for recipe in recipes)
    assert num_wider > 50
