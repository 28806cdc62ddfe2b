from pathlib import Path
from typing import Any

import pytest
from ledger_runs import Run

from search.decisions.budget import Budget, BudgetMeter, PlateauSettings


class Clock:
    """Seconds of a wall clock that stands."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(tmp_path: Path, clock: Clock) -> Run:
    """Six trials that train for a second each."""
    run = Run(tmp_path, clock=clock)
    for _ in range(6):
        run.finish(run.ask(), accuracy=0.5)
    return run


@pytest.mark.parametrize(
    ("budget", "seconds", "spent"),
    [
        ({"trials": 7}, 0.0, None),
        ({"trials": 6}, 0.0, "trials"),
        ({"hours": 1.0}, 3599.0, None),
        ({"hours": 1.0}, 3600.0, "hours"),
        ({"worker_hours": 6.5 / 3600}, 0.0, None),
        ({"worker_hours": 6.0 / 3600}, 0.0, "worker_hours"),
        ({"trials": 6, "hours": 1.0}, 3599.0, "trials"),
        # Paused trials would go on if only the trials were used up.
        ({"trials": 6, "hours": 1.0}, 3600.0, "hours"),
    ],
)
def test_each_limit_ends_a_search_when_it_is_reached(
    run: Run, clock: Clock, budget: dict[str, Any], seconds: float, spent: str | None
):
    clock.now = seconds
    assert BudgetMeter(Budget(**budget), run.ledger).spent() == spent


def test_worker_hours_are_those_of_all_sessions_and_of_what_runs(run: Run):
    run.reopen()
    running = run.ask()
    assert run.ledger.worker_seconds == 6.0
    run.ledger.report(running.number, run.ledger.records[0].epochs[:1])
    assert run.ledger.worker_seconds == 6.5


def plateau_after(run: Run, accuracies: list[float], percent: float) -> list[int]:
    """How many trials had finished when there was a plateau of three."""
    budget = Budget(trials=1000, plateau=PlateauSettings(percent=percent, trials=3))
    watched = BudgetMeter(budget, run.ledger)
    found = []
    for number, accuracy in enumerate(accuracies, 1):
        run.finish(run.ask(), accuracy=accuracy)
        if watched.spent() == "plateau":
            found.append(number)
    return found


def test_a_front_that_stands_still_ends_the_search(tmp_path: Path):
    # One architecture, so that accuracy alone decides. The fourth trial is the last that is better.
    content = {"learning_rate": {"log": [1e-4, 1e-1]}, "epochs": 2}
    run = Run(tmp_path, content=content)
    assert plateau_after(run, [0.2, 0.4, 0.5, 0.8, 0.7, 0.6, 0.8, 0.1], percent=1) == [7, 8]


def test_a_front_that_grows_too_little_ends_the_search(tmp_path: Path):
    content = {"learning_rate": {"log": [1e-4, 1e-1]}, "epochs": 2}
    run = Run(tmp_path, content=content)
    accuracies = [0.1, 0.5, 0.51, 0.52, 0.53, 0.54]
    assert plateau_after(run, accuracies, percent=20) == [5, 6]


def test_a_search_in_which_everything_fails_is_over(tmp_path: Path):
    run = Run(tmp_path)
    for _ in range(8):
        run.ledger.fail(run.ask().number, "no memory")
    assert BudgetMeter(Budget(trials=100), run.ledger).spent() == "failures"
