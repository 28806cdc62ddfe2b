import itertools
import os
import threading

import numpy as np
import pandas as pd
import pytest
from analysis_runs import four_trials, trial_row, write_run

from analysis.columns import write_number, write_setting
from analysis.runs import read_run, run_recipe, trial_columns
from spaces.errors import UserError
from spaces.recipe import Recipe
from spaces.yaml_files import read_yaml_mapping, write_yaml


@pytest.fixture
def run(tmp_path):
    return read_run(write_run(tmp_path / "animals", four_trials()))


def test_a_run_folder_is_read_with_its_study_trials_and_epochs(run, tmp_path):
    assert (run.name, run.path) == ("animals", tmp_path / "animals")
    assert run.objectives == {"accuracy": "max", "effective_gflops": "min"}
    assert run.costs == ("effective_gflops",)
    assert run.study["seed"] == 0
    assert list(run.trials["trial"]) == list(range(7))
    assert len(run.epochs) == 14


def test_only_complete_trials_with_finite_objectives_are_finished(tmp_path):
    rows = [*four_trials(), trial_row(7, np.nan, 0.1), trial_row(8, 0.5, np.inf)]
    run = read_run(write_run(tmp_path / "run", rows))
    assert list(run.finished["trial"]) == [0, 1, 2, 3]


def test_losses_are_objectives_turned_to_minimisation(run):
    np.testing.assert_allclose(
        run.losses(), [[-0.60, 0.05], [-0.90, 0.10], [-0.95, 1.0], [-0.55, 0.30]]
    )


def test_the_front_goes_from_the_cheapest_to_the_most_accurate(tmp_path):
    run = read_run(write_run(tmp_path / "run", reversed(four_trials())))
    assert list(run.front()["trial"]) == [0, 1, 2]


def test_three_objectives_give_a_front_ordered_by_the_first_cost(tmp_path):
    rows = [
        trial_row(0, 0.9, 1.0, size_mb=5.0),
        trial_row(1, 0.9, 2.0, size_mb=4.0),
        trial_row(2, 0.8, 2.0, size_mb=5.0),
    ]
    objectives = {"size_mb": "min", "accuracy": "max", "gflops": "min"}
    run = read_run(write_run(tmp_path / "run", rows, objectives))
    assert run.costs == ("size_mb", "gflops")
    assert list(run.front()["trial"]) == [1, 0]


def test_a_study_of_accuracy_alone_has_a_front(tmp_path):
    run = read_run(write_run(tmp_path / "run", four_trials(), {"accuracy": "max"}))
    assert list(run.front()["trial"]) == [2]


def test_trials_are_counted_by_state(run):
    assert run.counts() == {"COMPLETE": 4, "PRUNED": 1, "FAIL": 1, "RUNNING": 1, "PAUSED": 0}


def test_a_run_without_a_finished_trial_says_how_far_it_is(tmp_path):
    rows = [row for row in four_trials() if row["state"] != "COMPLETE"]
    run = read_run(write_run(tmp_path / "run", rows))
    with pytest.raises(UserError) as caught:
        run.front()
    assert str(caught.value) == (
        f"{tmp_path / 'run'}: no finished trial yet (1 stopped early, 1 failed, 1 unfinished;"
        " the first failed with: loss is NaN)"
    )


def test_a_run_that_has_recorded_nothing_yet_is_read_as_empty(tmp_path):
    path = write_run(tmp_path / "run", [])
    (path / "trials.parquet").unlink()
    (path / "tune").mkdir()
    (path / "epochs.parquet").unlink()
    run = read_run(path)
    assert sum(run.counts().values()) == 0
    assert run.losses().shape == (0, 2)
    with pytest.raises(UserError, match="no trial has begun"):
        run.front()


def test_a_storage_folder_lists_its_runs(tmp_path):
    for name in ("first", "second"):
        write_run(tmp_path / name, four_trials())
    with pytest.raises(UserError) as caught:
        read_run(tmp_path)
    assert f"{tmp_path / 'first'}, {tmp_path / 'second'}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "no such run folder"), ("file", "this is a file"), ("folder", "no study.yaml")],
)
def test_what_is_no_run_folder_is_named(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=message):
        read_run(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing PAR1", b"text"])
def test_damaged_parquet_is_one_line_with_the_name_of_the_file(tmp_path, content):
    path = write_run(tmp_path / "run", four_trials())
    (path / "trials.parquet").write_bytes(content)
    with pytest.raises(UserError, match="damaged") as caught:
        read_run(path)
    assert str(caught.value).startswith(f"{path / 'trials.parquet'}: ")
    assert "\n" not in str(caught.value)


def test_a_table_that_lacks_columns_names_them(tmp_path):
    path = write_run(tmp_path / "run", four_trials())
    table = pd.read_parquet(path / "trials.parquet")
    table.drop(columns=["model", "state"]).to_parquet(path / "trials.parquet")
    with pytest.raises(UserError, match="lacks the columns state, model"):
        read_run(path)


def test_columns_that_an_older_run_lacks_are_missing_in_every_row(tmp_path):
    path = write_run(tmp_path / "run", four_trials())
    table = pd.read_parquet(path / "trials.parquet")
    table.drop(columns=["gbops", "stop_reason", "cpus"]).to_parquet(path / "trials.parquet")
    trials = read_run(path).trials
    assert np.isnan(trials["gbops"].to_numpy(dtype=float)).all()
    assert np.isnan(trials["cpus"].to_numpy(dtype=float)).all()
    assert trials["stop_reason"].tolist() == [None] * len(trials)


def test_a_run_of_before_a_field_of_recipes_has_it_at_its_default(tmp_path):
    path = write_run(tmp_path / "run", four_trials())
    table = pd.read_parquet(path / "trials.parquet")
    table.drop(columns=["float_epochs", "qat"]).to_parquet(path / "trials.parquet")
    run = read_run(path)
    assert run.trials["float_epochs"].tolist() == [pd.NA] * len(run.trials)
    assert run.trials["qat"].tolist() == [False] * len(run.trials)


@pytest.mark.parametrize("objectives", [{"acuracy": "max"}, {"accuracy": "up"}, ["accuracy"]])
def test_objectives_that_are_no_columns_are_refused(tmp_path, objectives):
    path = write_run(tmp_path / "run", four_trials())
    (path / "study.yaml").write_text(write_yaml({"name": "run", "objectives": objectives}))
    with pytest.raises(UserError, match="objectives"):
        read_run(path)


def test_a_row_becomes_the_recipe_that_was_trained(run):
    row = run.front().iloc[1]
    recipe = run_recipe(row)
    assert recipe == Recipe(model="mobilenet_v2", unfrozen=2)
    assert type(recipe.batch_size) is int
    assert run_recipe(run.trials.iloc[0]).unfrozen is None


def test_integers_that_a_table_stretched_to_floats_become_integers_again(tmp_path):
    path = write_run(tmp_path / "run", [trial_row(0, 0.5, 0.1, unfrozen=3)])
    table = pd.read_parquet(path / "trials.parquet")
    table[["batch_size", "seed"]] = table[["batch_size", "seed"]].astype(float)
    table["unfrozen"] = [3.0]
    table.to_parquet(path / "trials.parquet")
    assert run_recipe(read_run(path).trials.iloc[0]) == Recipe(unfrozen=3)


def test_a_table_without_any_unfrozen_number_trains_every_block(tmp_path):
    path = write_run(tmp_path / "run", [trial_row(0, 0.5, 0.1)])
    table = pd.read_parquet(path / "trials.parquet")
    table["unfrozen"] = pd.Series([None], dtype=object)
    table.to_parquet(path / "trials.parquet")
    assert run_recipe(read_run(path).trials.iloc[0]).unfrozen is None


def test_a_mapping_without_every_field_takes_defaults():
    assert run_recipe({"model": "resnet18", "trial": 3}) == Recipe(model="resnet18")


def test_the_columns_are_those_of_the_run_folder():
    assert tuple(trial_columns())[:3] == ("trial", "state", "model")
    assert tuple(trial_columns())[-14:] == (
        *("epochs_trained", "seconds", "search_seconds", "error", "checkpoint", "ran_on"),
        *("cpus", "gpus", "stop_reason", "expected_low", "expected_accuracy", "expected_high"),
        *("expected_gain", "expected_seconds"),
    )


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0.711022336, "0.711"),
        (857_239, "857k"),
        (3_504_872, "3.50M"),
        (999_999, "1.00M"),
        (1.1e9, "1.10G"),
        (44.7, "44.7"),
        (100.0, "100"),
        (0.9999, "1.00"),
        (0.0012345, "0.00123"),
        (0.001, "0.001"),
        (0.0000131, "1.31e-05"),
        (-0.5, "-0.500"),
        (0, "0"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_numbers_are_written_with_three_digits(number, written):
    assert write_number(number) == written


@pytest.mark.parametrize(
    ("field", "value", "written"),
    [
        ("unfrozen", pd.NA, "all"),
        ("unfrozen", 2, "2"),
        ("batch_norm", np.bool_(True), "yes"),
        ("learning_rate", 0.00123456, "0.00123"),
        ("width", 1.0, "1"),
        ("weights", "/data/mobilenet_v2.pth", "mobilenet_v2"),
        ("model", "resnet18", "resnet18"),
    ],
)
def test_settings_are_written_as_people_say_them(field, value, written):
    assert write_setting(field, value) == written


def test_tables_are_read_while_a_search_replaces_them(tmp_path):
    path = write_run(tmp_path / "run", four_trials())
    table = path / "trials.parquet"
    short = pd.read_parquet(table)
    contents = [table.read_bytes()]
    pd.concat([short] * 50, ignore_index=True).to_parquet(table)
    contents.append(table.read_bytes())
    ended = threading.Event()

    def replace() -> None:
        for content in itertools.cycle(contents):
            if ended.is_set():
                return
            (path / ".new").write_bytes(content)
            (path / ".new").replace(table)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        sizes = {len(read_run(path).trials) for _ in range(100)}
    finally:
        ended.set()
        writer.join()
    assert sizes <= {len(short), 50 * len(short)}


def test_trials_that_never_began_are_counted_apart(tmp_path):
    rows = [trial_row(number, 0.5, 1.0) for number in range(3)]
    for row, error, epochs in ((rows[1], None, 1), (rows[2], "constraint gflops<=1: it is 2", 0)):
        row.update(state="PRUNED", accuracy=None, error=error, epochs_trained=epochs)
    run = read_run(write_run(tmp_path / "run", rows))
    assert run.num_not_begun == 1
    assert run.counts_in_words() == "1 complete, 1 stopped early, 1 not begun"


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("stop_reason", 3, "stop_reason should hold text, not 3"),
        ("stop_reason", [1], r"stop_reason should hold text, not array"),
        ("error", True, "error should hold text, not True"),
        ("accuracy", "0.5", "accuracy should hold numbers, not '0.5'"),
        ("gflops", [0.5], "gflops should hold numbers, not"),
        ("params", 0.5, "params should hold whole numbers, not 0.5"),
        ("batch_norm", 1, "batch_norm should hold true or false, not 1"),
        ("state", "DONE", "'DONE' is no state"),
        ("trial", None, "a trial has no number"),
        ("trial", "0", "trial should hold whole numbers, not '0'"),
        ("seconds", pd.Timestamp("2024-01-01"), "seconds should hold numbers, not Timestamp"),
    ],
)
def test_columns_of_other_types_are_told_in_a_line(tmp_path, column: str, value, reason: str):
    path = write_run(tmp_path / "run", four_trials())
    table = pd.read_parquet(path / "trials.parquet")
    table[column] = pd.Series([value] * len(table))
    table.to_parquet(path / "trials.parquet")
    with pytest.raises(UserError, match=rf"trials.parquet: damaged \({reason}") as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


def test_tables_that_are_no_files_are_told_in_a_line(tmp_path):
    path = write_run(tmp_path / "run", four_trials())
    (path / "tune").mkdir()
    for name in ("trials.parquet", "epochs.parquet"):
        (path / name).unlink()
        (path / name).mkdir()
        with pytest.raises(UserError, match=rf"{name}: is a folder, not a table"):
            read_run(path)
        (path / name).rmdir()
        os.mkfifo(path / name)
        with pytest.raises(UserError, match=rf"{name}: is a named pipe, not a table"):
            read_run(path)
        (path / name).unlink()
    assert read_run(path).trials.empty


@pytest.mark.parametrize("name", ["data", "provenance", "resources", "budget", "prices"])
def test_a_study_that_was_edited_by_hand_is_told_in_a_line(tmp_path, name: str):
    path = write_run(tmp_path / "run", four_trials())
    study = read_yaml_mapping(path / "study.yaml")
    (path / "study.yaml").write_text(write_yaml({**study, name: 5}))
    with pytest.raises(UserError, match=rf"study.yaml: {name}: 5 should be a mapping; restore it"):
        read_run(path)
    (path / "study.yaml").write_text(write_yaml({**study, name: None}))
    assert name not in read_run(path).study


def test_a_column_without_cells_may_have_any_type(tmp_path):
    path = write_run(tmp_path / "run", four_trials())
    table = pd.read_parquet(path / "trials.parquet").iloc[:0]
    table["seconds"] = pd.Series([], dtype="datetime64[ns]")
    table.to_parquet(path / "trials.parquet")
    assert read_run(path).trials["seconds"].dtype == float
