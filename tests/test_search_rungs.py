import itertools
from typing import Any, Literal

import numpy as np
import pytest
from ledger_runs import objectives_of
from optuna.trial import TrialState
from searches import metrics

from analysis.pareto.front import FloatArray
from search.decisions.pareto_tracker import ParetoTracker
from search.decisions.rungs import num_ahead_on_fronts, num_better, rungs, spread_order
from search.decisions.stopping import Stop, StoppingContext, StoppingRule
from search.decisions.stopping_rules import EarlyStoppingSettings, build_stopping_rule
from search.decisions.trial_record import TrialRecord
from spaces.recipe import Recipe
from trainables.costing.figures import Cost

OBJECTIVES = objectives_of({"accuracy": "max", "gflops": "min"})


class Rungs:
    """A rule, and the trials that it is asked about."""

    def __init__(self, name: Literal["pareto", "asha"] = "pareto", **settings: Any) -> None:
        self.rule = build_stopping_rule(EarlyStoppingSettings(name=name, **settings), OBJECTIVES)
        self.tracker = ParetoTracker(OBJECTIVES)

    def ask(self, number: int, accuracy: float, gflops: float, schedule: str = "constant") -> bool:
        """Whether a trial goes on that came to the first rung with this accuracy."""
        trial = trial_of(number, accuracy, gflops, schedule)
        context = StoppingContext(pareto_tracker=self.tracker, trials={number: trial})
        return not isinstance(self.rule.decide(trial, context), Stop)


def trial_of(number: int, accuracy: float, gflops: float, schedule: str) -> TrialRecord:
    return TrialRecord(
        number=number,
        recipe=Recipe.replace(Recipe(), scheduler=schedule, epochs=27),
        cost=Cost(figures={"gflops": gflops}),
        epochs=[metrics(1, accuracy)],
    )


def front_by_front(losses: FloatArray) -> list[int]:
    """Non-dominated sorting by its definition: the front of each row, from 0."""
    left = set(range(len(losses)))
    ranks = [0] * len(losses)
    for rank in itertools.count():
        if not left:
            return ranks
        front = {
            i
            for i in left
            if not any(
                (losses[j] <= losses[i]).all() and (losses[j] < losses[i]).any() for j in left
            )
        }
        for i in front:
            ranks[i] = rank
        left -= front
    return ranks


@pytest.mark.parametrize(
    ("first", "last", "reduction", "expected"),
    [
        (1, 26, 3, [1, 3, 9]),
        (1, 27, 3, [1, 3, 9, 27]),
        (2, 100, 4, [2, 8, 32]),
        (1, 6, 1.5, [1, 2, 3, 5]),
        (1, 4, 1.1, [1, 2, 3, 4]),
        (5, 4, 3, []),
    ],
)
def test_rungs_are_a_factor_apart(first: int, last: int, reduction: float, expected: list[int]):
    assert rungs(first, last, reduction) == expected


def test_no_rung_is_a_trials_last_epoch_or_after_max_epochs():
    assert Rungs(reduction=3).rule.rungs(27) == [1, 3, 9]
    assert Rungs(reduction=3).rule.rungs(28) == [1, 3, 9, 27]
    assert Rungs().rule.rungs(1) == []
    assert Rungs(min_epochs=2, max_epochs=6, reduction=3).rule.rungs(100) == [2, 6]


@pytest.mark.parametrize("seed", range(20))
def test_who_is_ahead_is_decided_by_fronts_then_by_spread(seed: int):
    rng = np.random.default_rng(seed)
    losses = np.c_[-rng.integers(0, 8, 25) / 8, rng.choice([0.1, 0.2, 0.4], 25)]
    ranks = front_by_front(losses)
    ahead = num_ahead_on_fronts(losses, [1])
    on_its_front = ranks.count(ranks[-1])
    better = sum(rank < ranks[-1] for rank in ranks)
    assert better <= ahead < better + on_its_front


def test_the_order_on_a_front_keeps_its_ends_and_then_fills_the_gaps():
    # Accuracies of 0.9 to 0.5 at ten times less compute each; the fourth is close to the third.
    losses = np.array([[-0.9, 1.0], [-0.8, 0.1], [-0.7, 0.01], [-0.69, 0.0099], [-0.5, 0.0001]])
    order = spread_order(losses, [1]).tolist()
    assert order[:2] == [0, 4]
    assert order[2] == 2
    assert order[-1] == 3
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_of_equal_rows_one_is_early_and_the_others_last():
    losses = np.array([[-0.9, 1.0], [-0.9, 1.0], [-0.5, 0.1]])
    assert spread_order(losses).tolist() in ([0, 2, 1], [1, 2, 0])


@pytest.mark.parametrize(
    ("name", "survivors"), [("pareto", {"cheap", "expensive"}), ("asha", {"expensive"})]
)
def test_cheap_and_expensive_trials_survive_side_by_side(
    name: Literal["pareto", "asha"], survivors: set[str]
):
    """A third goes on; by accuracy alone that is the expensive ones, on fronts it is both."""
    asked = Rungs(name, reduction=3)
    went_on = set()
    for number in range(60):
        kind, cost, best = [("cheap", 0.01, 0.2), ("expensive", 1.0, 0.8)][number % 2]
        if asked.ask(number, best * (number % 30 + 1) / 30, cost) and number >= 30:
            went_on.add(kind)
    assert went_on == survivors


@pytest.mark.parametrize("outlook", [True, False])
@pytest.mark.parametrize("beyond", [True, False])
def test_beyond_the_front_a_trial_goes_on_unless_it_is_dominated_at_its_rung(
    outlook: bool, beyond: bool
):
    asked = Rungs(outlook=outlook)
    finished = trial_of(9, 0.75 if beyond else 0.85, 0.1, "cosine")
    finished.state, finished.metrics = TrialState.COMPLETE, finished.epochs[-1].metrics
    asked.tracker.take_in(finished)
    # The third is between two ends, and there are two seats.
    asked.ask(0, 0.2, 0.001, "cosine")
    asked.ask(1, 0.9, 1.0, "cosine")
    assert asked.ask(2, 0.8, 0.1, "cosine") == (outlook and beyond)
    assert not asked.ask(3, 0.7, 0.2, "cosine")


def test_the_first_at_a_rung_goes_on_and_of_three_one():
    asked = Rungs("asha", reduction=3)
    decided = [asked.ask(number, accuracy, 1.0) for number, accuracy in enumerate([0.5, 0.4, 0.3])]
    assert decided == [True, False, False]


@pytest.mark.parametrize("name", ["pareto", "asha"])
def test_one_in_so_many_goes_on_in_the_long_run(name: Literal["pareto", "asha"]):
    rng = np.random.default_rng(0)
    asked = Rungs(name, reduction=4)
    went_on = sum(
        asked.ask(number, rng.random(), float(rng.choice([0.1, 0.2]))) for number in range(800)
    )
    assert 0.2 < went_on / 800 < 0.32


def test_more_accurate_is_counted_in_its_own_column():
    assert num_better(np.array([[1.0, -0.9], [2.0, -0.5], [0.5, -0.6]]), column=1) == 1


def test_none_stops_nothing_and_neither_does_a_study_without_accuracy():
    none = build_stopping_rule(EarlyStoppingSettings(name="none"), OBJECTIVES)
    costs = objectives_of({"gflops": "min", "params": "min"})
    assert type(none) is StoppingRule
    assert type(build_stopping_rule(EarlyStoppingSettings(), costs)) is StoppingRule


def test_each_schedule_has_rungs_of_its_own():
    asked = Rungs("asha", reduction=3)
    for number in range(9):
        asked.ask(number, 0.9, 1.0)
    assert asked.ask(9, 0.1, 1.0, "onecycle")
    assert not asked.ask(10, 0.1, 1.0)
