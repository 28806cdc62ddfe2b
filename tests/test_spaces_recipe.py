import json
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from spaces.errors import UserError
from spaces.recipe import (
    FLOAT_FIELDS,
    NUMBERS,
    RECIPE_FIELDS,
    Recipe,
    read_recipe,
    recipe_from,
    resolve_weights,
)
from spaces.yaml_files import write_yaml

OTHER: dict[str, Any] = {
    "model": "mobilenet_v2",
    "weights": "/weights/w.pt",
    "input_size": 64,
    "width": 0.5,
    "batch_norm": True,
    "residual": True,
    "unfrozen": 0,
    "augment": "light",
    "qat": True,
    "batch_size": 64,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "weight_decay": 1e-4,
    "label_smoothing": 0.1,
    "class_weighting": "balanced",
    "oversampling": True,
    "scheduler": "cosine",
    "epochs": 3,
    "seed": 7,
}


def mistakes_of(**values: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        recipe_from(values)
    return str(caught.value).splitlines()


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_mapping_is_the_default_recipe():
    recipe = recipe_from({})
    assert recipe == Recipe()
    assert (recipe.model, recipe.weights, recipe.input_size) == ("baseline_cnn", "none", 112)
    assert (recipe.optimizer, recipe.learning_rate, recipe.unfrozen) == ("adam", 1e-3, None)


def test_a_recipe_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Recipe().epochs = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("field", OTHER)
def test_recipes_come_back_from_json_and_from_yaml_files(field: str, tmp_path: Path):
    recipe = recipe_from({field: OTHER[field]})
    assert getattr(recipe, field) == OTHER[field]
    assert recipe_from(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert read_recipe(write(tmp_path / "r.yaml", write_yaml(recipe.to_dict()))) == recipe


def test_every_field_is_tried_here():
    assert set(RECIPE_FIELDS) - set(OTHER) == {"float_epochs"}  # which goes with qat alone
    recipe = recipe_from({"qat": True, "float_epochs": 6})
    assert recipe_from(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_keys_stay_what_they_are_or_runs_that_are_resumed_would_train_everything_again():
    assert Recipe().key == "31049d24b8c57230"
    assert Recipe(model="resnet18", learning_rate=3e-4, unfrozen=2).key == "45fb6c9303b3fb91"


def test_equal_recipes_share_a_key_however_they_were_written():
    assert recipe_from({"width": 1, "epochs": 10}).key == Recipe().key
    assert recipe_from(dict(reversed(Recipe(seed=3).to_dict().items()))).key == Recipe(seed=3).key


def test_any_other_value_gives_another_key():
    keys = {Recipe().key} | {recipe_from({field: value}).key for field, value in OTHER.items()}
    assert len(keys) == 1 + len(OTHER)
    assert Recipe(unfrozen=0).key != Recipe(unfrozen=None).key


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("model", "", "model: '' should have at least 1 character"),
        ("model", 5, "model: 5 should be a valid string"),
        ("weights", None, "weights: None should be a valid string"),
        ("input_size", 7, "input_size: 7 should be greater than or equal to 8"),
        ("input_size", 2049, "input_size: 2049 should be less than or equal to 2048"),
        ("input_size", 112.0, "input_size: 112.0 should be a valid integer"),
        ("width", 0, "width: 0 should be greater than 0"),
        ("width", 8.5, "width: 8.5 should be less than or equal to 8"),
        ("batch_norm", 1, "batch_norm: 1 should be a valid boolean"),
        ("residual", "yes", "residual: 'yes' should be a valid boolean"),
        ("unfrozen", -1, "unfrozen: -1 should be greater than or equal to 0"),
        (
            "augment",
            "lite",
            "augment: lite is not one of none, light or trivialaugment; did you mean light?",
        ),
        ("qat", 1, "qat: 1 should be a valid boolean"),
        ("float_epochs", -1, "float_epochs: -1 should be greater than or equal to 0"),
        (
            "float_epochs",
            2,
            "float_epochs: only with qat: true; add `when: {qat: true}` or leave it out",
        ),
        ("batch_size", 0, "batch_size: 0 should be greater than or equal to 1"),
        (
            "optimizer",
            "Adam",
            "optimizer: Adam is not one of adam, adamw, sgd, rmsprop or adagrad;"
            " did you mean adam?",
        ),
        ("learning_rate", 0, "learning_rate: 0 should be greater than 0"),
        ("learning_rate", "1e-3", "learning_rate: '1e-3' should be a valid number"),
        ("weight_decay", -1e-4, "weight_decay: -0.0001 should be greater than or equal to 0"),
        ("label_smoothing", 1, "label_smoothing: 1 should be less than 1"),
        (
            "class_weighting",
            "balance",
            "class_weighting: balance is not one of none or balanced; did you mean balanced?",
        ),
        (
            "scheduler",
            3,
            "scheduler: 3 is not one of constant, step, plateau, cosine or onecycle",
        ),
        ("epochs", 0, "epochs: 0 should be greater than or equal to 1"),
        ("seed", -1, "seed: -1 should be greater than or equal to 0"),
        ("seed", 2**32, "seed: 4294967296 should be less than 4294967296"),
        ("batchsize", 3, "batchsize: unknown; did you mean batch_size?"),
        ("colour", 3, "colour: unknown"),
    ],
)
def test_each_rule_has_its_line(field: str, value: Any, line: str):
    assert mistakes_of(**{field: value}) == [line]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"weights": "imagenet"}, "weights: there are no imagenet weights for baseline_cnn"),
        (
            {"model": "resnet18", "batch_norm": True},
            "batch_norm: only baseline_cnn has this",
        ),
        ({"model": "resnet18", "residual": True}, "residual: only baseline_cnn has this option"),
        ({"model": "resnet18", "width": 0.5}, "width: resnet18 comes in one width; use 1.0"),
        (
            {"qat": True, "epochs": 3, "float_epochs": 3},
            "float_epochs: 3 of 3 epochs in float leave none for qat; use fewer",
        ),
    ],
)
def test_fields_that_do_not_fit_each_other_have_their_line(values: dict[str, Any], line: str):
    assert [found[: len(line)] for found in mistakes_of(**values)] == [line]


def test_all_mistakes_are_told_at_once():
    lines = mistakes_of(batch_size=True, optimiser="adam", epochs=0, scheduler="cosin")
    assert [line.split(":")[0] for line in lines] == [
        *("batch_size", "scheduler", "epochs", "optimiser"),
    ]
    lines = mistakes_of(model="resnet18", batch_norm=True, residual=True, width=2.0)
    assert [line.split(":")[0] for line in lines] == ["batch_norm", "residual", "width"]


@pytest.mark.parametrize("field", sorted(FLOAT_FIELDS))
def test_whole_numbers_are_fine_where_any_number_is(field: str):
    value = 0 if field == "label_smoothing" else 1
    found = getattr(recipe_from({field: value}), field)
    assert (type(found), found) == (float, value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, -(10**400)])
@pytest.mark.parametrize("field", [*sorted(FLOAT_FIELDS), "epochs", "unfrozen"])
def test_numbers_without_end_are_refused(field: str, value: float):
    assert len(mistakes_of(**{field: value})) == 1


@pytest.mark.parametrize("field", ["input_size", "unfrozen", "batch_size", "epochs", "seed"])
@pytest.mark.parametrize("value", [True, False])
def test_true_and_false_are_no_numbers(field: str, value: bool):
    assert mistakes_of(**{field: value}) == [f"{field}: {value} should be a valid integer"]


@pytest.mark.parametrize("field", sorted(FLOAT_FIELDS))
def test_true_is_no_number_of_any_kind(field: str):
    assert mistakes_of(**{field: True}) == [f"{field}: True should be a valid number"]


def test_a_copy_with_changes_is_checked_too():
    assert Recipe().replace(epochs=3) == Recipe(epochs=3)
    with pytest.raises(UserError, match=r"^epoch: unknown; did you mean epochs"):
        Recipe().replace(epoch=3)


def test_a_path_of_weights_starts_at_the_recipe_file(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    path = write(tmp_path / "r.yaml", "{model: mobilenet_v2, weights: ../w/net.pt}")
    assert read_recipe(path).weights == str(tmp_path.parent / "w" / "net.pt")
    assert resolve_weights("/w/net.pt", tmp_path) == "/w/net.pt"
    assert resolve_weights("~/net.pt", tmp_path) == "/home/someone/net.pt"
    for word in ("none", "imagenet"):
        assert resolve_weights(word, tmp_path) == word


def test_weights_without_a_name_are_not_the_folder_of_the_file(tmp_path: Path):
    with pytest.raises(UserError, match="weights: '' should have at least 1 character"):
        read_recipe(write(tmp_path / "r.yaml", "weights: ''"))


@pytest.mark.parametrize("weights", ["~nobody-of-that-name/w.pt", "a\0b", "x" * 300])
def test_weights_that_are_no_path_are_refused_in_one_line(weights: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"^'.* can't be a path: ") as caught:
        read_recipe(write(tmp_path / "r.yaml", write_yaml({"weights": weights})))
    assert "\n" not in str(caught.value)


def test_the_numbers_of_an_exported_recipe_are_not_part_of_it(tmp_path: Path):
    content = {**Recipe(epochs=3).to_dict(), NUMBERS: {"accuracy": 0.9}}
    assert read_recipe(write(tmp_path / "r.yaml", write_yaml(content))) == Recipe(epochs=3)


def test_every_line_about_a_recipe_file_names_it(tmp_path: Path):
    path = write(tmp_path / "r.yaml", "{epoch: 3, batch_size: 0}")
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    assert str(caught.value).splitlines() == [
        f"{path}: batch_size: 0 should be greater than or equal to 1",
        f"{path}: epoch: unknown; did you mean epochs?",
    ]
