from pathlib import Path

import pytest
from optuna.trial import TrialState

from search.decisions.ledger import TrialRecord
from search.followups.export import export_recipe, recorded_numbers
from search.storage.run_folder import RunFolder
from search.study.study import load_study
from spaces.errors import UserError
from spaces.recipe import Recipe, read_recipe
from spaces.yaml_files import write_yaml
from trainables.costing.figures import Cost
from trainables.data.dataset import ImageData
from trainables.learning.metrics import EpochMetrics

RECIPES = (Recipe(input_size=48, width=0.25), Recipe(input_size=64, unfrozen=2), Recipe(epochs=1))


def record_of(number: int, accuracy: float, gflops: float) -> TrialRecord:
    cost = Cost(
        figures={
            "gmacs": gflops / 2,
            "gflops": gflops,
            "effective_gflops": gflops,
            "gbops": 512 * gflops,
            "params": 1000,
            "size_mb": 0.004,
        }
    )
    epoch = EpochMetrics(
        epoch=1,
        train_loss=1.0,
        train_accuracy=accuracy,
        val_loss=1.0,
        accuracy=accuracy,
        learning_rate=1e-3,
        seconds=2.5,
    )
    return TrialRecord(
        number=number,
        recipe=RECIPES[number],
        cost=cost,
        state=TrialState.COMPLETE,
        epochs=[epoch],
        metrics=epoch.metrics,
    )


@pytest.fixture
def run(tmp_path: Path, demo_data: ImageData) -> Path:
    content = {"name": "tiny", "data": {"path": str(demo_data.path)}, "space": "quick"}
    path = tmp_path / "study.yaml"
    path.write_text(write_yaml(content), encoding="utf-8")
    folder = RunFolder.create(load_study(path), demo_data)
    failed = TrialRecord(number=2, recipe=RECIPES[2], state=TrialState.FAIL, error="loss is NaN")
    folder.write_tables([record_of(0, 0.6, 0.05), record_of(1, 0.9, 0.2), failed])
    folder.close()
    return folder.path


@pytest.mark.parametrize(
    ("rule", "trial"), [("most-accurate", 1), ("cheapest", 0), ("accuracy>=0.5", 0), ("1", 1)]
)
def test_the_recipe_that_a_rule_picks_is_written_as_a_recipe_file(rule: str, trial: int, run: Path):
    path, why = export_recipe(run, rule)
    assert path == run / "export" / f"trial-{trial}.yaml"
    assert why.startswith(f"Trial {trial} ")
    assert read_recipe(path) == RECIPES[trial]


def test_the_file_says_what_its_trial_reached_and_on_what(run: Path, demo_data: ImageData):
    path, why = export_recipe(run, "most-accurate")
    numbers = recorded_numbers(path)
    assert (numbers["trial"], numbers["picked"], numbers["why"]) == (1, "most-accurate", why)
    assert (numbers["accuracy"], numbers["gflops"], numbers["params"]) == (0.9, 0.2, 1000)
    assert (numbers["latency_ms"], numbers["epochs_trained"], numbers["seconds"]) == (None, 1, 2.5)
    assert (numbers["data"], numbers["data_digest"]) == (str(demo_data.path), demo_data.digest)
    assert (numbers["run"], numbers["num_classes"], numbers["threads"]) == (str(run), 3, 1)
    assert "torch" in numbers["versions"]


def test_whole_numbers_are_written_as_such(run: Path):
    path, _ = export_recipe(run, "0")
    assert "params: 1000\n" in path.read_text()


def test_the_file_goes_where_it_is_asked_for(run: Path, tmp_path: Path):
    path, _ = export_recipe(run, "0", tmp_path / "new" / "folder" / "mine.yaml")
    assert path == tmp_path / "new" / "folder" / "mine.yaml"
    assert read_recipe(path) == RECIPES[0]
    with pytest.raises(UserError, match=r"can't write .*: it is a folder"):
        export_recipe(run, "0", tmp_path)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("2", "trial 2 has no result: it failed: loss is NaN"),
        ("9", "trial 9: not in"),
        ("accuracy>=0.95", "none of 2 finished trials has accuracy>=0.95"),
        ("best", "'best' is not a rule"),
    ],
)
def test_a_rule_that_picks_nothing_has_a_line_and_writes_nothing(rule: str, line: str, run: Path):
    with pytest.raises(UserError, match=line):
        export_recipe(run, rule)
    assert not (run / "export").exists()


def test_a_folder_that_is_no_run_has_a_line(tmp_path: Path):
    with pytest.raises(UserError):
        export_recipe(tmp_path, "knee")


def test_a_recipe_that_was_written_by_hand_has_no_numbers(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("epochs: 3")
    assert recorded_numbers(path) == {}
