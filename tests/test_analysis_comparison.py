import io
from pathlib import Path

import pytest
import yaml
from analysis_runs import four_trials, trial_row, write_run
from PIL import Image
from rich.console import Console

from analysis.results.comparison import (
    compare_runs,
    comparison_picture,
    comparison_records,
    comparison_table,
)
from analysis.results.hypervolume_range import HypervolumeRange
from analysis.runs import Run, read_run
from spaces.errors import UserError


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    better = [trial_row(0, 0.60, 0.05, input_size=64), trial_row(1, 0.92, 0.09)]
    return [
        read_run(write_run(tmp_path / "first", four_trials())),
        read_run(write_run(tmp_path / "second", better)),
    ]


def test_each_run_is_told_what_only_it_has(runs: list[Run]):
    first, second = comparison_records(compare_runs(runs))
    # Trial 0 is in both, trial 1 of the second beats that of the first.
    assert first["only_here"] == [2]
    assert second["only_here"] == [1]
    assert first["best_accuracy"] == 0.95


def test_hypervolumes_are_measured_in_one_box(runs: list[Run]):
    alone = compare_runs([runs[0], runs[0]])
    assert alone[0].share == alone[1].share
    assert alone[0].own.empty
    both = compare_runs(runs)
    # Scaled by hand: accuracy 0 to 0.95, cost by magnitude 0.05 to 1, and a tenth beyond.
    assert both[0].share == pytest.approx(
        (0.6 * 1.1 + 0.3 * (1.1 - _across(0.1)) + 0.05 * 0.1) / 0.95 / 1.1
    )


def _across(gflops: float) -> float:
    import math

    return math.log(gflops / 0.05) / math.log(20)


def test_the_table_names_a_point_that_only_one_run_has(runs: list[Run]):
    screen = Console(file=io.StringIO(), width=160)
    screen.print(comparison_table(compare_runs(runs)))
    message = screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "first" in message
    assert "95.0 % accuracy at 1.00 effective GFLOPs" in message


def test_the_picture_is_a_png_with_something_on_it(runs: list[Run], tmp_path: Path):
    with Image.open(comparison_picture(compare_runs(runs), tmp_path / "fronts.png")) as picture:
        assert picture.size == (1350, 840)
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 100


def test_runs_of_the_same_name_go_by_their_paths(tmp_path: Path):
    paths = [write_run(tmp_path / folder / "run", four_trials()) for folder in ("a", "b")]
    names = [one.name for one in compare_runs([read_run(path) for path in paths])]
    assert names == [str(path) for path in paths]


def test_what_does_not_compare_is_refused(runs: list[Run], tmp_path: Path):
    with pytest.raises(UserError, match="name two run folders or more"):
        compare_runs(runs[:1])
    other = write_run(tmp_path / "third", four_trials(), {"accuracy": "max", "params": "min"})
    with pytest.raises(UserError, match=r"third: its objectives are accuracy max, params min, "):
        compare_runs([runs[0], read_run(other)])
    study = yaml.safe_load((runs[1].path / "study.yaml").read_text())
    study["provenance"] = {"data_digest": "another"}
    (runs[1].path / "study.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(UserError, match=r"second: its data is not that of .*first"):
        compare_runs([runs[0], read_run(runs[1].path)])


def with_provenance(run: Run, **provenance: float) -> Run:
    path = run.path / "study.yaml"
    study = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**study, "provenance": {"num_classes": 25, **provenance}}))
    return read_run(run.path)


def test_a_useless_point_at_the_cheap_end_decides_nothing(tmp_path: Path):
    """8.3 % at a hundredth of the cost, where guessing gets 6 %, against a far better front."""
    far_better = [trial_row(0, 0.70, 0.03), trial_row(1, 0.90, 0.1)]
    useless = [trial_row(0, 0.083, 0.0004), trial_row(1, 0.60, 0.1)]
    runs = [
        with_provenance(read_run(write_run(tmp_path / name, rows)), majority_share=0.06)
        for name, rows in (("better", far_better), ("useless", useless))
    ]
    better, worse = compare_runs(runs)
    assert better.share > 2 * worse.share
    assert better.measured_in.reference_accuracy == 0.06
    # Above 10 %, it does not even widen the range of costs.
    alone, _ = compare_runs(runs, HypervolumeRange(reference_accuracy=0.1))
    told = alone.measured_in.cost_range
    assert told == pytest.approx((0.03, 0.1 * (0.1 / 0.03) ** 0.1))  # a tenth beyond the worst
    assert alone.measured_in.note == (
        "accuracy above 10.0 % (as chosen), effective GFLOPs from 0.03 to 0.1128"
    )
    again, _ = compare_runs(runs, HypervolumeRange(reference_accuracy=0.1, cost_range=told))
    assert again.share == pytest.approx(alone.share)


def test_a_run_that_recorded_no_majority_is_measured_from_one_class_of_them(runs: list[Run]):
    box = compare_runs([with_provenance(run) for run in runs])[0].measured_in
    assert box.reference_accuracy == 1 / 25
    assert "above 4.0 % (guessing)" in box.note


def test_costs_outside_the_chosen_range_count_as_its_ends_or_not_at_all(runs: list[Run]):
    first, _ = compare_runs(runs, HypervolumeRange(cost_range=(0.1, 0.5)))
    # 0.9 at 0.1 dominates everything below it; 0.95 at 1.0 is beyond the range.
    assert first.share == pytest.approx(0.9 / 0.95)
    assert comparison_records([first])[0]["cost_range"] == [0.1, 0.5]


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ({"reference_accuracy": 0.99}, "--reference-accuracy 0.99: no trial is above it, the best"),
        ({"reference_accuracy": 50}, "--reference-accuracy 50: use a fraction from 0 up to 1"),
        ({"cost_range": (1.0, 0.5)}, "--cost-range 1 0.5: use two rising numbers above 0"),
        ({"cost_range": (0.0, 0.5)}, "--cost-range 0 0.5: use two rising numbers above 0"),
        ({"cost_range": (float("nan"), 1.0)}, "--cost-range nan 1: use two rising numbers above 0"),
    ],
)
def test_a_range_that_can_not_be_is_refused(runs: list[Run], wanted: dict, line: str):
    with pytest.raises(UserError, match=line):
        compare_runs(runs, HypervolumeRange(**wanted))
