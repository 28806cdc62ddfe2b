from pathlib import Path

import numpy as np
from analysis_runs import four_trials, trial_row, write_run

from analysis.choose import choose
from analysis.results.hypervolume_trace import hypervolume_trace
from analysis.results.next_steps import NextStep, next_steps
from analysis.runs import Run, read_run


def steps_of(run: Run, *, place: str = "runs/my run", confirmed: bool = False) -> list[NextStep]:
    chosen = choose(run, "knee")
    return next_steps(run, chosen, hypervolume_trace(run), place=place, confirmed=confirmed)


def test_each_command_says_what_to_expect(tmp_path: Path):
    steps = steps_of(read_run(write_run(tmp_path / "run", four_trials())))
    assert [step.command for step in steps] == [
        "flopwise search STUDY --resume",
        "flopwise confirm 'runs/my run'",
        "flopwise export 'runs/my run' --pick 1 --format onnx",
        "flopwise ablate 'runs/my run' --trial 1 --against default",
    ]
    assert "1 unfinished trial." in steps[0].expected
    # 3 trials of 12.5 seconds with 3 seeds.
    assert "the 3 trials of the front again with 3 fresh seeds each" in steps[1].expected
    assert "about 112 s of worker time" in steps[1].expected
    assert "90.0 % accuracy, 3.43 MB" in steps[2].expected


def test_paused_trials_go_on_with_a_resume(tmp_path: Path):
    rows = [*four_trials(), trial_row(7, np.nan, 0.3, state="PAUSED")]
    steps = steps_of(read_run(write_run(tmp_path / "run", rows)))
    assert steps[0].expected == "Continues 1 unfinished trial and 1 paused trial."


def test_a_confirmed_front_is_not_confirmed_again(tmp_path: Path):
    run = read_run(write_run(tmp_path / "run", four_trials()))
    assert not any("confirm" in step.command for step in steps_of(run, confirmed=True))


def test_a_longer_search_is_judged_by_the_last_quarter(tmp_path: Path):
    early = [trial_row(0, 0.5, 0.1), trial_row(1, 0.9, 1.0)]
    late = [trial_row(number, 0.3 + 0.01 * number, 0.5) for number in range(2, 12)]
    flat = steps_of(read_run(write_run(tmp_path / "flat", [*early, *late])))[-1]
    assert flat.command == "flopwise search STUDY --resume --trials 24"
    assert "The last 3 finished trials raised the front's hypervolume by 0.0 %." in flat.expected
    assert "Expect little" in flat.expected
    better = [*early, *late, trial_row(12, 0.89, 0.1)]
    rising = steps_of(read_run(write_run(tmp_path / "rising", better)))[-1]
    assert "More trials may still raise it." in rising.expected
    assert "13 more trials take about 3 min of worker time" in rising.expected
