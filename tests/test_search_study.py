import contextlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection

from search.commands.printing import short_lines
from search.decisions.samplers import SAMPLERS
from search.decisions.stopping_rules import STOPPING_RULES
from search.storage.run_folder import RunFolder
from search.study.study import Study, load_study
from spaces.columns import COSTS, numbers_in_words
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.space_file import load_space
from spaces.yaml_files import write_yaml
from trainables.cost import MEASURES
from trainables.data.dataset import ImageData


def listed(table: Iterable[str]) -> str:
    *names, last = table
    return f"{', '.join(names)} or {last}"


MINIMAL: dict[str, Any] = {"name": "tiny", "data": {"path": "data"}, "space": "quick"}
# The example of the design, early stopping left out until it is built.
FULL: dict[str, Any] = {
    "name": "animals",
    "data": {"path": "data/animals"},
    "space": "animals",
    "objectives": {"accuracy": "max", "effective_gflops": "min"},
    "sampler": {"name": "tpe"},
    "early_stopping": {"name": "none"},
    "budget": {"trials": 64, "hours": 8},
    "resources": {"cpus": 1, "gpus": 0},
    "prices": {"currency": "USD", "per_hour": {"NVIDIA A10G": 1, "cpu": 0.05}},
    "storage": "runs",
    "seed": 0,
    "enqueue": ["ladder"],
}


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "study.yaml"
    path.write_text(write_yaml(content), encoding="utf-8")
    return path


def study_of(folder: Path, **changes: Any) -> Study:
    return load_study(write(folder, {**MINIMAL, **changes}))


def mistakes_in(folder: Path, content: dict[str, Any]) -> list[str]:
    path = write(folder, content)
    with pytest.raises(UserError) as caught:
        load_study(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


NAMES_A_FOLDER = (
    "must be a folder's name on every system: use a-z, A-Z, 0-9, dots, - and _, and begin with a"
    " letter or digit"
)


def test_the_costs_of_study_files_are_the_costs_that_are_measured():
    assert {*COSTS} == {*MEASURES, "latency_ms"}


def test_three_lines_are_a_study(tmp_path: Path):
    study = study_of(tmp_path)
    assert study.data == tmp_path / "data"
    assert study.folder == tmp_path / "runs" / "tiny"
    assert study.objectives == {"accuracy": "max", "effective_gflops": "min"}
    assert study.objectives.optuna_directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert (study.sampler.name, study.early_stopping.name) == ("gain", "gain")
    assert (study.budget.trials, study.budget.hours) == (64, None)
    assert (study.trial_resources.cpus, study.trial_resources.gpus) == (1, 0.0)
    assert (study.seed, study.space.enqueue) == (0, ())


def test_resources_may_be_left_to_a_probe(tmp_path: Path):
    study = study_of(tmp_path, resources="auto")
    assert study.resources == "auto"
    assert study.resolved()["resources"] == "auto"
    assert study.resource_choice is None


def test_every_setting_can_be_written(tmp_path: Path):
    study = load_study(write(tmp_path, FULL))
    assert (study.budget.trials, study.budget.hours) == (64, 8.0)
    assert study.space.enqueue == load_space("ladder").enqueue
    resolved = study.resolved()
    assert resolved["data"] == {"path": str(tmp_path / "data" / "animals")}
    assert resolved["storage"] == str(tmp_path / "runs")
    assert set(FULL) - set(resolved) == {"enqueue"}


def test_the_shipped_examples_are_studies():
    for path in sorted((Path(__file__).parents[1] / "examples").glob("*.yaml")):
        assert load_study(path).name == path.stem


def test_a_resolved_study_resolves_to_itself_from_anywhere(tmp_path: Path):
    study = load_study(write(tmp_path, FULL), fixes={"epochs": 3}, seed=5)
    (tmp_path / "elsewhere").mkdir()
    again = load_study(write(tmp_path / "elsewhere", study.resolved()))
    assert again.resolved() == study.resolved()
    assert again.space.digest == study.space.digest


def test_every_mistake_is_told_at_once_with_its_path(tmp_path: Path):
    lines = mistakes_in(
        tmp_path,
        {
            "nmae": "x",
            "data": {"pth": "data"},
            "space": "quick",
            "objectives": {"accuracy": "up"},
            "sampler": {"name": "tpee"},
            "early_stopping": {"name": "paretto"},
            "budget": {"trails": 64, "hours": 0},
            "resources": {"cpus": 0.5},
            "prices": {"curency": "USD", "per_hour": {"NVIDIA A10G": -1, "cpu": "0.05"}},
            "storage": "s3://me:secret@bucket/runs",
            "seed": -1,
            "enqueue": "ladder",
        },
    )
    assert sorted(lines) == sorted(
        [
            "nmae: unknown; did you mean name?",
            "name: required, but not given",
            "data.path: required, but not given",
            "data.pth: unknown; did you mean path?",
            "objectives.accuracy: up is not one of max or min",
            f"sampler.name: tpee is not one of {listed(SAMPLERS)}; did you mean tpe?",
            f"early_stopping.name: paretto is not one of {listed(STOPPING_RULES)};"
            " did you mean pareto?",
            "budget.hours: 0 should be greater than 0",
            "budget.trails: unknown; did you mean trials?",
            "resources.cpus: 0.5 should be a valid integer",
            "prices.currency: required, but not given",
            "prices.curency: unknown; did you mean currency?",
            "prices.per_hour.NVIDIA A10G: -1 should be greater than or equal to 0",
            "prices.per_hour.cpu: '0.05' should be a valid number",
            "storage: the address holds a key, which every run would record; put keys where this"
            " kind of storage looks for them, such as AWS_SECRET_ACCESS_KEY",
            "seed: -1 should be greater than or equal to 0",
            "enqueue: 'ladder' is not a list; write enqueue: [ladder]",
        ]
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"name": "a/b"}, f"name: 'a/b' {NAMES_A_FOLDER}"),
        ({"name": ".."}, f"name: '..' {NAMES_A_FOLDER}"),
        ({"name": 5}, "name: 5 should be a valid string"),
        (
            {"data": "../data/animals"},
            "data: '../data/animals' is not a mapping; write data: {path: ../data/animals}",
        ),
        ({"data": ["x"]}, "data: ['x'] is not a mapping; write data: {path: ...}"),
        ({"sampler": "tpe"}, "sampler: 'tpe' is not a mapping; write sampler: {name: tpe}"),
        ({"budget": 64}, "budget: 64 is not a mapping; write budget: {trials: 64}"),
        ({"resources": 2}, "resources: 2 is not a mapping; write resources: {cpus: 2, gpus: 0}"),
        (
            {"budget": {"trials": 3, "plateau": 5}},
            "budget.plateau: 5 is not a mapping; write plateau: {percent: 1, trials: 20}",
        ),
        (
            {"budget": {}},
            "budget: give trials, hours or worker_hours, or the search might never end",
        ),
        ({"budget": {"hours": True}}, "budget.hours: True should be a valid number"),
        ({"budget": {"hours": "8"}}, "budget.hours: '8' should be a valid number"),
        ({"budget": {"hours": math.inf}}, "budget.hours: inf should be a finite number"),
        ({"budget": {"hours": math.nan}}, "budget.hours: nan should be a finite number"),
        ({"budget": {"trials": 0}}, "budget.trials: 0 should be greater than or equal to 1"),
        (
            {"resources": "automatic"},
            "resources: 'automatic' is neither auto nor a mapping such as {cpus: 1, gpus: 0};"
            " did you mean auto?",
        ),
        ({"resources": {"cpu": 1}}, "resources.cpu: unknown; did you mean cpus?"),
        ({"resources": {"gpus": -1}}, "resources.gpus: -1 should be greater than or equal to 0"),
        ({"resources": {"gpus": True}}, "resources.gpus: True should be a valid number"),
        (
            {"objectives": {}},
            "objectives: name at least one, such as {accuracy: max, gflops: min}",
        ),
        (
            {"objectives": {"gflop": "min"}},
            f"objectives: gflop is not a number of a trial; use {numbers_in_words()};"
            " did you mean gflops?",
        ),
        ({"space": 5}, "space: 5 should be a name, a space file's path, or its lines"),
        ({"space": None}, "space: None should be a name, a space file's path, or its lines"),
        (
            {"constraints": {"gflop": "<= 1"}},
            f"constraints: gflop is not a number of a trial; use {numbers_in_words()};"
            " did you mean gflops?",
        ),
        (
            {"constraints": {"accuracy": ">= 50"}},
            "constraints: accuracy >= 50: accuracy is a fraction from 0 to 1; write 0.5",
        ),
        (
            {"constraints": {"gflops": "0.5"}},
            "constraints: gflops: '0.5' is not a bound; write one such as '<= 0.5'",
        ),
        (
            {"early_stopping": {"min_epochs": 5, "max_epochs": 3}},
            "early_stopping: max_epochs 3 is below min_epochs 5, so nothing would be stopped;"
            " use {name: none} for that",
        ),
        ({"enqueue": [5]}, "enqueue.0: 5 should be a valid string"),
        ({"seed": 2**32}, "seed: 4294967296 should be less than 4294967296"),
    ],
)
def test_each_mistake_has_its_line(tmp_path: Path, changes: dict[str, Any], line: str):
    assert mistakes_in(tmp_path, {**MINIMAL, **changes}) == [line]


def test_mistakes_in_a_space_name_the_space(tmp_path: Path):
    assert mistakes_in(tmp_path, {**MINIMAL, "space": {"epoch": 3, "batch_size": 0}}) == [
        "space: epoch: unknown; did you mean epochs?",
        "space: batch_size: 0 should be greater than or equal to 1",
    ]
    (line,) = mistakes_in(tmp_path, {**MINIMAL, "space": "quik"})
    assert line.endswith("; did you mean quick?")


def test_arguments_override_the_file(tmp_path: Path):
    path = write(tmp_path, FULL)
    study = load_study(path, trials=3, seed=9, fixes={"batch_size": 16})
    assert (study.budget.trials, study.budget.hours, study.seed) == (3, 8.0, 9)
    assert study.space.rules["batch_size"].dimension.extremes == (16,)
    assert load_study(path, hours=0.5).budget.hours == 0.5
    study = load_study(write(tmp_path, MINIMAL), hours=0.5)
    assert (study.budget.trials, study.budget.hours) == (64, 0.5)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ({"trials": 0}, "budget.trials: 0 should be greater than or equal to 1"),
        ({"hours": -1.0}, "budget.hours: -1.0 should be greater than 0"),
        ({"hours": math.nan}, "budget.hours: nan should be a finite number"),
        ({"seed": -1}, "seed: -1 should be greater than or equal to 0"),
        ({"fixes": {"epoch": 1}}, "--fix: epoch: unknown; did you mean epochs?"),
    ],
)
def test_arguments_are_checked_as_the_file_is(tmp_path: Path, override: Any, line: str):
    with pytest.raises(UserError) as caught:
        load_study(write(tmp_path, MINIMAL), **override)
    assert str(caught.value).removeprefix(f"{tmp_path / 'study.yaml'}: ") == line


def test_paths_start_at_the_study_file(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    (tmp_path / "space.yaml").write_text("{model: mobilenet_v2, weights: w.pt}")
    study = study_of(tmp_path, data={"path": "../d"}, storage="~/runs", space="space.yaml")
    assert study.data == tmp_path.parent / "d"
    assert study.folder == Path("/home/someone/runs/tiny")
    assert study.space.rules["weights"].dimension.extremes == (str(tmp_path / "w.pt"),)
    study = study_of(tmp_path, space={"model": "mobilenet_v2", "weights": "v/w.pt"})
    assert study.space.rules["weights"].dimension.extremes == (str(tmp_path / "v" / "w.pt"),)
    monkeypatch.chdir(tmp_path.parent)
    assert load_study(Path(tmp_path.name) / "study.yaml").data == tmp_path / "data"


def test_the_seed_is_also_that_of_the_recipes_unless_the_space_has_one(tmp_path: Path):
    assert study_of(tmp_path, seed=7).space.rules["seed"].dimension.extremes == (7,)
    space = {"seed": {"int": [1, 3]}}
    study = study_of(tmp_path, seed=7, space=space)
    assert study.space.rules["seed"].dimension.extremes == (1, 3)
    assert study_of(tmp_path, seed=7).space.digest != study_of(tmp_path, seed=8).space.digest


def test_recipes_to_try_first_come_from_spaces_and_recipe_files_in_order(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("{epochs: [1, 2], enqueue: [{epochs: 2}, {epochs: 3}]}")
    (tmp_path / "one.yml").write_text("{model: mobilenet_v2, weights: w.pt}")
    study = study_of(tmp_path, enqueue=["one.yml", "mine.yaml", "ladder"], space="mine.yaml")
    one = Recipe(model="mobilenet_v2", weights=str(tmp_path / "w.pt"))
    assert study.space.enqueue[:3] == (one, Recipe(epochs=2), Recipe(epochs=3))
    assert study.space.enqueue[3:] == load_space("ladder").enqueue


def test_a_recipe_that_is_named_twice_is_tried_once(tmp_path: Path):
    study = study_of(tmp_path, space="ladder", enqueue=["ladder"])
    assert study.space.enqueue == load_space("ladder").enqueue


def test_a_fix_holds_for_the_recipes_that_the_study_tries_first(tmp_path: Path):
    study = load_study(write(tmp_path, {**MINIMAL, "enqueue": ["ladder"]}), fixes={"epochs": 2})
    assert [recipe.epochs for recipe in study.space.enqueue] == [2] * 8


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("quick", "enqueue: quick lists no recipes under `enqueue`"),
        ("no.yaml", "no.yaml: there is no such file"),
        ("lader", "did you mean ladder?"),
        ("", "'' can't be a path: it is empty"),
    ],
)
def test_what_can_not_be_enqueued_has_a_line(tmp_path: Path, entry: str, line: str):
    (found,) = mistakes_in(tmp_path, {**MINIMAL, "enqueue": [entry]})
    assert found.endswith(line)


def indices(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in nested mappings and lists."""
    items = (
        list(content.items())
        if isinstance(content, dict)
        else list(enumerate(content))
        if isinstance(content, list)
        else []
    )
    return [
        index for key, value in items for index in ((*path, key), *indices(value, (*path, key)))
    ]


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = content.copy()
    copy[path[0]] = replaced(content[path[0]], path[1:], value)
    return copy


ODD = (
    *(None, True, [], [[]], {"when": {"model": 1}}, -1, 10**400, math.nan, "", "word"),
    *("~nobody-of-that-name/x", "a\0b", "x" * 300),
)
WRITTEN_OUT: dict[str, Any] = {
    **{name: value for name, value in FULL.items() if name != "enqueue"},
    "space": {
        "model": ["baseline_cnn", "mobilenet_v2"],
        "weights": {"fixed": "w.pt", "when": {"model": ["mobilenet_v2"]}},
        "unfrozen": {"int": [0, 8], "step": 2, "when": {"weights": "w.pt"}},
        "learning_rate": {"log": [1e-4, 1e-2]},
        "enqueue": [{"epochs": 3, "weights": "v.pt"}],
    },
}


@pytest.mark.parametrize("index", indices(WRITTEN_OUT), ids=lambda path: ".".join(map(str, path)))
def test_whatever_stands_in_a_place_no_traceback_comes_of_it(tmp_path: Path, index: Any):
    for value in ODD:
        path = write(tmp_path, replaced(WRITTEN_OUT, index, value))
        with contextlib.suppress(UserError):
            load_study(path)


@pytest.mark.parametrize(
    "text", ["budget: {2020-01-01: 3}", "budget: &b {trials: *b}", "data: !!set {a}", "seed: 0x1"]
)
def test_the_rest_of_yaml_gives_no_traceback_either(tmp_path: Path, text: str):
    path = tmp_path / "study.yaml"
    path.write_text(f"name: x\nspace: quick\n{text}")
    with pytest.raises(UserError, match=r"study\.yaml:"):
        load_study(path)


def test_a_resume_says_again_what_the_command_line_said_at_the_beginning(
    tmp_path: Path, demo_data: ImageData
):
    path = write(tmp_path, {**MINIMAL, "data": {"path": str(demo_data.path)}})
    begun = load_study(path, trials=3, seed=9, fixes={"batch_size": 16, "input_size": 48})
    RunFolder.create(begun, demo_data).close()
    resumed = load_study(path, resume=True)
    assert resumed.resolved() == begun.resolved()
    larger = load_study(path, trials=5, resume=True)
    assert larger.budget.trials == 5
    assert larger.space.to_dict() == begun.space.to_dict()
    RunFolder.reopen(larger, demo_data).close()
    assert load_study(path, resume=True).budget.trials == 5
    assert load_study(path).overrides == {}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"early_stopping": {"name": "none", "reduction": 3}},
            "early_stopping: reduction: none has no such setting; leave it out, or write name:"
            " pareto or asha",
        ),
        (
            {"early_stopping": {"name": "asha", "outlook": False}},
            "early_stopping: outlook: asha has no such setting; leave it out, or write name:"
            " pareto",
        ),
        ({"patience": 3}, "patience: unknown"),
        ({"budget": {"trials": 3, "hour": 1}}, "budget.hour: unknown; did you mean hours?"),
        ({"resources": {"gpu": 1}}, "resources.gpu: unknown; did you mean gpus?"),
        ({"data": {"path": ""}}, "data.path: is empty; write a path or an address"),
        ({"storage": ""}, "storage: is empty; write a path or an address"),
        ({"name": "a" * 5000}, f"name: '{'a' * 76}... is too long; use 100 characters at most"),
        (
            {f"key{number}": 1 for number in range(3000)},
            "key0, key1, key2 and 2,997 more keys: unknown; use name, data, space, objectives,"
            " sampler, early_stopping, budget, resources, prices, storage, seed, enqueue,"
            " constraints, warm_start, dominated",
        ),
    ],
)
def test_a_mistake_has_one_short_line(tmp_path: Path, changes: dict[str, Any], line: str):
    assert mistakes_in(tmp_path, {**MINIMAL, **changes}) == [line]


@pytest.mark.parametrize(
    "address",
    [
        "s3://KEY:HIDDEN@bucket/x",
        "s3://KEY:HID@DEN@bucket/x",
        "s3://bucket/x?secret_key=HIDDEN",
        "abfs://box@account/x?account_key=HIDDEN",
        "gs://bucket/x?credential=HIDDEN&region=y",
    ],
)
def test_addresses_that_hold_a_key_are_refused_wherever_they_stand(tmp_path: Path, address: str):
    line = "the address holds a key, which every run would record; put keys where this kind of"
    for changes in (
        {"data": {"path": address}},
        {"storage": address},
        {"warm_start": [address]},
        {"data": address, "storage": address},
    ):
        told = "\n".join(mistakes_in(tmp_path, {**MINIMAL, **changes}))
        assert line in told
        assert "HID" not in short_lines(told)[-1]


def test_the_study_of_a_run_may_be_larger_than_a_users(tmp_path: Path):
    recipes = [{**Recipe(seed=seed).to_dict()} for seed in range(900)]
    content = {**MINIMAL, "space": {"epochs": 10, "enqueue": recipes}}
    path = tmp_path / "study.yaml"
    path.write_text(write_yaml(content))
    with pytest.raises(UserError, match="bytes, too many for a file"):
        load_study(path)
    (tmp_path / "tune").mkdir()
    assert len(load_study(path).space.enqueue) == 900
