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
    reference = 1.1**2
    # Scaled by hand: accuracy 0.60 to 0.95, cost by magnitude 0.05 to 1.
    assert both[0].share == pytest.approx(
        (0.1 * 1.1 + _above(0.9) * (1.1 - _across(0.1)) + (_above(0.95) - _above(0.9)) * 0.1)
        / reference
    )


def _above(accuracy: float) -> float:
    return (accuracy - 0.6) / 0.35


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
