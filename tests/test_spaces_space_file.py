from pathlib import Path
from typing import Any

import pytest

from spaces.errors import UserError
from spaces.overrides import narrow, parse_fixes
from spaces.recipe import Recipe
from spaces.space import SearchSpace
from spaces.space_file import load_space, parse_space, shipped_spaces
from spaces.suggesters import RandomTrial


def space_of(content: dict[str, Any], folder: Path = Path("/spaces")) -> SearchSpace:
    return parse_space(content, name="test", source="s.yaml", folder=folder)


def mistakes_in(content: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as caught:
        space_of(content)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("s.yaml: ") for line in lines)
    return [line.removeprefix("s.yaml: ") for line in lines]


def drawn_from(space: SearchSpace, count: int = 200) -> list[Recipe]:
    trial = RandomTrial(seed=1)
    return [space.suggest(trial) for _ in range(count)]


def test_three_spaces_are_shipped():
    assert shipped_spaces() == ("animals", "ladder", "quick")
    assert [len(load_space(name).enqueue) for name in shipped_spaces()] == [0, 8, 0]


def test_the_ladder_is_the_seven_steps_of_the_report():
    first, *_, last = load_space("ladder").enqueue
    assert first == Recipe(batch_size=16, epochs=20)
    assert (last.model, last.weights, last.input_size) == ("mobilenet_v3_large", "imagenet", 224)


def test_a_space_is_a_shipped_name_or_a_file_that_starts_at_the_folder(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("epochs: [1, 2]")
    (tmp_path / "bare").write_text("epochs: [1, 2, 3]")
    assert load_space("mine.yaml", tmp_path).name == "mine"
    assert (
        load_space(str(tmp_path / "mine.yaml")).digest == load_space("mine.yaml", tmp_path).digest
    )
    assert load_space("bare", tmp_path).rules["epochs"].dimension.extremes == (1, 2, 3)
    with pytest.raises(UserError) as caught:
        load_space("animal", tmp_path)
    assert str(caught.value) == (
        "space: animal is neither shipped (animals, ladder, quick) nor a file"
        "; did you mean animals?"
    )
    with pytest.raises(UserError, match=r"other.yaml: there is no such file"):
        load_space("other.yaml", tmp_path)


@pytest.mark.parametrize("name", ["~nobody-of-that-name/s.yaml", "a\0b", "x" * 300, "", ".."])
def test_names_that_are_no_space_are_refused_in_one_line(name: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        load_space(name, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"batchsize": 3}, "batchsize: unknown; did you mean batch_size?"),
        ({"epochs": 0}, "epochs: 0 should be greater than or equal to 1"),
        ({"epochs": True}, "epochs: True should be a valid integer"),
        ({"epochs": None}, "epochs: None should be a valid integer"),
        ({"epochs": []}, "epochs: a choice needs at least one value"),
        ({"epochs": [3, 5, 3]}, "epochs: a value is listed twice in [3, 5, 3]"),
        ({"width": [1, 1.0]}, "width: a value is listed twice in [1, 1.0]"),
        (
            {"epochs": [[1, 2]]},
            "epochs: expected a word, a number, true, false or null; found [1, 2]",
        ),
        ({"epochs": {}}, "epochs: write one of fixed, choices, int, float, log; found nothing"),
        ({"epochs": {"in": 3}}, "epochs: write one of fixed, choices, int, float, log; found in"),
        (
            {"epochs": {"int": [1, 2], "fixed": 3}},
            "epochs: write one of fixed, choices, int, float, log; found int, fixed",
        ),
        ({"epochs": {"int": [1, 2], "stp": 3}}, "epochs: stp: does not go with int"),
        ({"epochs": {"log": [1, 8], "step": 2}}, "epochs: step: does not go with log"),
        ({"epochs": {"choices": 3}}, "epochs: choices takes a list; found 3"),
        ({"epochs": {"int": 3}}, "epochs: int takes [low, high]; found 3"),
        ({"epochs": {"int": [1, 2, 3]}}, "epochs: int takes [low, high]; found [1, 2, 3]"),
        ({"epochs": {"int": [1, "a"]}}, "epochs: int takes [low, high]; found [1, 'a']"),
        ({"epochs": {"int": [False, 3]}}, "epochs: int takes [low, high]; found [False, 3]"),
        ({"epochs": {"int": [5, 3]}}, "epochs: int: low 5 is above high 3"),
        ({"epochs": {"int": [1, 2.5]}}, "epochs: int takes whole numbers here; found [1, 2.5]"),
        ({"epochs": {"log": [1.0, 8.0]}}, "epochs: log takes whole numbers here; found [1.0, 8.0]"),
        (
            {"epochs": {"float": [1, 8]}},
            "epochs: this field takes whole numbers; write int in place of float",
        ),
        ({"epochs": {"int": [1, 4], "step": 2}}, "epochs: step 2 does not lead from 1 to 4"),
        ({"epochs": {"int": [1, 3], "step": 0}}, "epochs: step must be a number above 0; found 0"),
        (
            {"width": {"float": [0.5, 1], "step": "a"}},
            "width: step must be a number above 0; found 'a'",
        ),
        (
            {"width": {"float": [0.1, 1], "step": 0.4}},
            "width: step 0.4 does not lead from 0.1 to 1",
        ),
        (
            {"width": {"float": [0.5, 1], "step": float("inf")}},
            "width: step must be a number above 0; found inf",
        ),
        (
            {"width": {"float": [0.5, 1], "step": 5e-324}},
            "width: step 4.94066e-324 does not lead from 0.5 to 1",
        ),
        ({"learning_rate": {"log": [0, 1]}}, "learning_rate: log: low must be above 0; found 0"),
        (
            {"learning_rate": {"log": [float("nan"), 1]}},
            "learning_rate: log takes [low, high]; found [nan, 1]",
        ),
        (
            {"learning_rate": {"log": [1, 1000]}},
            "learning_rate: 1000.0 should be less than or equal to 100",
        ),
        ({"model": {"fixed": 3}}, "model: 3 should be a valid string"),
        (
            {"optimizer": ["adam", "lamb"]},
            "optimizer: lamb is not one of adam, adamw, sgd, rmsprop or adagrad",
        ),
        ({"weights": ""}, "weights: '' should have at least 1 character"),
        ({"epochs": {"fixed": 3, "when": None}}, "epochs: when takes {field: value}; found None"),
        (
            {"epochs": {"fixed": 3, "when": {"modle": 3}}},
            "epochs.when.modle: unknown; did you mean model?",
        ),
        (
            {"epochs": {"fixed": 3, "when": {"model": []}}},
            "epochs: when.model: name at least one value",
        ),
        (
            {"epochs": {"fixed": 3, "when": {"model": "resnet18"}}},
            "epochs.when.model: model is never 'resnet18'",
        ),
        (
            {"batch_norm": [False, True], "epochs": {"fixed": 3, "when": {"batch_norm": 1}}},
            "epochs.when.batch_norm: batch_norm is never 1",
        ),
        (
            {"seed": {"int": [1, 5], "step": 2}, "epochs": {"fixed": 3, "when": {"seed": [3, 4]}}},
            "epochs.when.seed: seed is never 4",
        ),
        (
            {"epochs": {"fixed": 3, "when": {"epochs": 10}}},
            "when: a circle of conditions: epochs -> epochs",
        ),
        (
            {"model": "resnet18", "batch_norm": [False, True]},
            "batch_norm: only baseline_cnn has this option, resnet18 has not;"
            " add `when: {model: baseline_cnn}` or leave it out",
        ),
        ({"enqueue": {"epochs": 3}}, "enqueue: takes a list of recipes"),
        ({"enqueue": ["ladder"]}, "enqueue: takes a list of recipes"),
        ({"enqueue": [{}, {"epoch": 3}]}, "enqueue[1].epoch: unknown; did you mean epochs?"),
    ],
)
def test_each_mistake_has_its_line(content: dict[str, Any], line: str):
    assert mistakes_in(content) == [line]


def test_two_fields_that_wait_for_each_other_are_a_circle():
    content = {
        "batch_norm": {"fixed": True, "when": {"residual": True}},
        "residual": {"fixed": True, "when": {"batch_norm": True}},
    }
    (line,) = mistakes_in(content)
    assert line.startswith("when: a circle of conditions: ")


def test_all_mistakes_are_told_at_once():
    lines = mistakes_in(
        {
            "modle": "resnet18",
            "epochs": {"int": [5, 3]},
            "optimizer": ["lamb", "lars"],
            "width": {"fixed": 0.5, "when": {"model": "resnet18", "colour": 1}},
            "unfrozen": {"fixed": 3, "when": {"epochs": 99}},
            "enqueue": [{"epoch": 1, "batch_size": 0}],
        }
    )
    assert [line.partition(": ")[0] for line in lines] == [
        *("enqueue[0].batch_size", "enqueue[0].epoch", "modle", "epochs", "optimizer"),
        *("optimizer", "width.when.model", "width.when.colour"),
    ]


@pytest.mark.parametrize("value", [10**400, float("nan"), float("inf")])
@pytest.mark.parametrize("form", ["{}", "[{}]", "range", "step"])
def test_numbers_without_end_are_refused_in_every_place(value: float, form: str):
    written = {
        "{}": value,
        "[{}]": [value],
        "range": {"float": [0.1, value]},
        "step": {"float": [0.1, 1.0], "step": value},
    }[form]
    (line,) = mistakes_in({"width": written})
    assert line.startswith("width: ")


def test_paths_of_weights_start_at_the_space_file(tmp_path: Path):
    (tmp_path / "s.yaml").write_text(
        "model: [mobilenet_v2, baseline_cnn]\n"
        "weights: {choices: [none, w/a.pt, /b.pt], when: {model: mobilenet_v2}}\n"
        "unfrozen: {fixed: 3, when: {weights: none}}\n"
        "enqueue: [{model: mobilenet_v2, weights: w/c.pt}]\n"
    )
    space = load_space("s.yaml", tmp_path)
    here = str(tmp_path / "w" / "a.pt")
    assert space.rules["weights"].dimension.extremes == ("none", here, "/b.pt")
    assert space.enqueue[0].weights == str(tmp_path / "w" / "c.pt")
    again = parse_space(space.written, name="s", source="s", folder=Path("/elsewhere"))
    assert again.digest == space.digest


def test_a_condition_may_name_weights_by_the_path_that_the_file_wrote(tmp_path: Path):
    space = space_of(
        {
            "model": "mobilenet_v2",
            "weights": ["none", "a.pt"],
            "unfrozen": {"fixed": 3, "when": {"weights": "a.pt"}},
        },
        folder=tmp_path,
    )
    seen = {(recipe.weights, recipe.unfrozen) for recipe in drawn_from(space)}
    assert seen == {("none", None), (str(tmp_path / "a.pt"), 3)}


def test_a_fixed_field_is_fixed_and_a_narrowed_one_narrow():
    space = narrow(load_space("quick"), {"epochs": 2, "input_size": [48], "optimizer": ["adam"]})
    assert {(r.epochs, r.input_size, r.optimizer) for r in drawn_from(space)} == {(2, 48, "adam")}
    space = narrow(space, {"learning_rate": {"log": [1e-3, 2e-3]}, "seed": [1, 2]})
    assert all(1e-3 <= recipe.learning_rate <= 2e-3 for recipe in drawn_from(space))
    assert {recipe.seed for recipe in drawn_from(space)} == {1, 2}


def test_a_narrowed_field_keeps_its_condition_unless_the_change_brings_its_own():
    animals = load_space("animals")
    for change in (True, [True], {"choices": [True]}):
        for recipe in drawn_from(narrow(animals, {"batch_norm": change})):
            assert recipe.batch_norm == (recipe.model == "baseline_cnn")
    change = {"fixed": 3, "when": {"model": "resnet18"}}
    for recipe in drawn_from(narrow(animals, {"unfrozen": change})):
        assert (recipe.unfrozen == 3) == (recipe.model == "resnet18")


@pytest.mark.parametrize("name", ["animals", "ladder"])
@pytest.mark.parametrize(
    "model", ["baseline_cnn", "mobilenet_v3_large", ["resnet50", "efficientnet_b0"]]
)
def test_shipped_spaces_can_be_narrowed_to_some_of_their_models(name: str, model: Any):
    space = load_space(name)
    narrowed = narrow(space, {"model": model})
    wanted = model if isinstance(model, list) else [model]
    recipes = drawn_from(narrowed)
    assert {recipe.model for recipe in recipes} == set(wanted)
    for recipe in recipes:
        assert recipe.weights == ("none" if recipe.model == "baseline_cnn" else "imagenet")
    again = parse_space(narrowed.written, name=name, source="", folder=Path("/"))
    assert again.digest == narrowed.digest
    assert list(again.rules) == list(narrowed.rules)
    assert space.digest == load_space(name).digest


def test_conditions_on_what_was_narrowed_away_go_and_take_theirs_with_them():
    narrowed = narrow(load_space("animals"), {"model": ["baseline_cnn"]})
    assert "weights" not in narrowed.rules
    assert "unfrozen" not in narrowed.rules
    assert "batch_norm" in narrowed.rules


def test_fixing_a_field_whose_condition_is_narrowed_away_is_a_mistake():
    with pytest.raises(UserError, match=r"^--fix: width.when.model: model is never"):
        narrow(load_space("animals"), {"model": "resnet18", "width": 0.5})


def test_mistakes_in_changes_are_told_at_once():
    with pytest.raises(UserError) as caught:
        narrow(load_space("animals"), {"epoch": 3, "batch_size": 0, "augment": {"float": [0, 1]}})
    lines = [line.removeprefix("--fix: ") for line in str(caught.value).splitlines()]
    fields = sorted(line.partition(": ")[0] for line in lines)
    assert fields == ["augment", "augment", "batch_size", "epoch"]


def test_recipes_to_be_tried_first_take_a_fixed_value_over():
    ladder = load_space("ladder")
    fixed = narrow(ladder, {"epochs": 2, "batch_norm": True, "batch_size": [16, 32]})
    assert [recipe.epochs for recipe in fixed.enqueue] == [2] * 8
    assert [recipe.batch_norm for recipe in fixed.enqueue] == [True] * 4 + [False] * 4
    assert [r.batch_size for r in fixed.enqueue] == [r.batch_size for r in ladder.enqueue]


def test_recipes_that_a_fixed_value_does_not_fit_are_not_tried():
    fixed = narrow(load_space("ladder"), {"model": "baseline_cnn"})
    assert fixed.enqueue == load_space("ladder").enqueue[:4]


def test_the_recipes_to_be_tried_first_can_not_be_fixed():
    with pytest.raises(UserError, match="--fix: enqueue is not a dimension"):
        narrow(load_space("ladder"), {"enqueue": []})


def test_fixes_are_written_as_in_a_space_file(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fixes = parse_fixes(
        [
            *("batch_size=64", "batch_norm = true", "learning_rate=1e-3", "unfrozen=null"),
            *("optimizer=[adam, sgd]", "epochs={int: [1, 3]}", "model=resnet18"),
            *("weights=w/a.pt", "scheduler="),
        ]
    )
    assert fixes == {
        "batch_size": 64,
        "batch_norm": True,
        "learning_rate": 1e-3,
        "unfrozen": None,
        "optimizer": ["adam", "sgd"],
        "epochs": {"int": [1, 3]},
        "model": "resnet18",
        "weights": str(tmp_path / "w" / "a.pt"),
        "scheduler": None,
    }
    assert parse_fixes([]) == {}


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("batch_size", "--fix batch_size: write field=value, such as --fix batch_size=64"),
        ("epochs=[1", "--fix epochs=[1:1:3: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_fixes_that_can_not_be_read_have_a_line(word: str, line: str):
    with pytest.raises(UserError) as caught:
        parse_fixes([word])
    assert str(caught.value) == line
