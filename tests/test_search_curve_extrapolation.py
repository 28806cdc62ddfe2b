"""Which curves a running trial is judged by, and what becomes of trials at chance."""

from collections.abc import Sequence
from typing import Any

import pytest
from ledger_runs import objectives_of
from optuna.trial import TrialState
from searches import metrics

from search.decisions.chance import Chance, chance_of
from search.decisions.curve_extrapolation import CurveExtrapolation
from search.decisions.pareto_tracker import ParetoTracker
from search.decisions.stopping import Decision, Go, Stop, StoppingContext
from search.decisions.stopping_rules import EarlyStoppingSettings, build_stopping_rule
from search.decisions.trial_record import TrialRecord
from spaces.constraints import read_study_constraint
from spaces.recipe import Recipe
from trainables.costing.figures import Cost

OBJECTIVES = objectives_of({"accuracy": "max", "gflops": "min"})
CNN: dict[str, Any] = {}
HEAD: dict[str, Any] = {"model": "mobilenet_v2", "weights": "imagenet", "unfrozen": 0}
BLOCKS = HEAD | {"unfrozen": 3}
WHOLE = HEAD | {"unfrozen": None}
# 40 classes; of 400 images, two standard errors are 1.6 points.
CHANCE = chance_of("accuracy", [10] * 40)
LEARNS_NOTHING = [0.025, 0.022, 0.028, 0.03, 0.025, 0.028]
LEARNS_LATE = [0.025, 0.025, 0.03, 0.2, 0.4, 0.6]


def trial_of(
    number: int,
    accuracies: Sequence[float],
    recipe: dict[str, Any],
    *,
    gflops: float = 1.0,
    epochs: int = 6,
) -> TrialRecord:
    return TrialRecord(
        number=number,
        recipe=Recipe(**{"epochs": epochs, "scheduler": "constant", **recipe}),
        cost=Cost(figures={"gflops": gflops}),
        epochs=[metrics(epoch, accuracy) for epoch, accuracy in enumerate(accuracies, 1)],
    )


def learned(*curves: tuple[Sequence[float], dict[str, Any]]) -> CurveExtrapolation:
    found = CurveExtrapolation()
    for number, (accuracies, recipe) in enumerate(curves):
        found.learn(trial_of(number, accuracies, recipe, epochs=len(accuracies)))
    return found


class Search:
    """The default rule, and the trials that it has seen."""

    def __init__(self, chance: Chance | None = CHANCE, objectives=OBJECTIVES, **settings: Any):
        rule = EarlyStoppingSettings(name="pareto", **settings)
        self.rule = build_stopping_rule(rule, objectives)
        # Another trial has done better than guessing.
        self.trials = {-1: TrialRecord(number=-1, metrics={"accuracy": 0.5})}
        self.context = StoppingContext(
            pareto_tracker=ParetoTracker(objectives), trials=self.trials, chance=chance
        )

    def finish(self, trial: TrialRecord) -> None:
        trial.state, trial.metrics = TrialState.COMPLETE, trial.epochs[-1].metrics
        self.context.pareto_tracker.take_in(trial)
        self.rule.learn(trial)

    def train(self, trial: TrialRecord) -> Decision:
        """Report epoch by epoch; returns the decision to stop, or to go on to the end."""
        epochs, trial.epochs = trial.epochs, []
        for one in epochs:
            trial.epochs.append(one)
            decision = self.rule.decide(trial, self.context)
            if isinstance(decision, Stop):
                return decision
            assert isinstance(decision, Go)
            trial.rungs |= decision.rungs
        return Go()


PRETRAINED_GAINS = [0.3, 0.6, 0.8, 0.85, 0.88, 0.9]


@pytest.mark.parametrize("recipe", [CNN, HEAD, BLOCKS])
def test_a_trial_is_judged_by_curves_like_its_own_alone(recipe: dict[str, Any]):
    curves = {
        "cnn": (LEARNS_LATE, CNN),
        "head": ([0.38, 0.39, 0.395, 0.396, 0.396, 0.396], HEAD),
        "blocks": (PRETRAINED_GAINS, BLOCKS),
    }
    own = {id(CNN): "cnn", id(HEAD): "head", id(BLOCKS): "blocks"}[id(recipe)]
    known = learned(*(curve for curve in curves.values() for _ in range(3)))
    accuracies = curves[own][0]
    assert known.best_end(trial_of(9, accuracies[:1], recipe)) == pytest.approx(accuracies[-1])


@pytest.mark.parametrize(
    ("known", "recipe", "is_judged"),
    [
        (HEAD, BLOCKS, False),  # what trains more gains more
        (BLOCKS, HEAD, True),
        (BLOCKS, WHOLE, False),
        (WHOLE, BLOCKS, True),
        (CNN, HEAD, False),  # other knowledge to begin with
        (BLOCKS, CNN, False),
        (CNN | {"scheduler": "cosine"}, CNN, True),
    ],
)
def test_without_curves_like_its_own_only_those_that_gain_more_judge_a_trial(
    known: dict[str, Any], recipe: dict[str, Any], is_judged: bool
):
    extrapolation = learned(*[(PRETRAINED_GAINS, known)] * 3)
    best = extrapolation.best_end(trial_of(9, [0.3], recipe))
    assert best == (pytest.approx(0.9) if is_judged else 1.0)


def test_a_head_goes_on_at_39_percent_where_a_cnn_at_chance_is_stopped():
    """The CNN is the cheapest trial, so that no other dominates it; it learns nothing."""
    search = Search()
    for number in range(3):
        search.finish(trial_of(number, PRETRAINED_GAINS, BLOCKS | {"seed": number}, gflops=2.0))
    stopped = search.train(trial_of(3, LEARNS_NOTHING, CNN, gflops=0.1))
    assert stopped == Stop(
        reason="at chance: 2.2 % after 2 of 6 epochs, where guessing gets 2.5 % (of 400 images);"
        " no trial like it has learned anything after that"
    )
    head = trial_of(4, [0.38, 0.39, 0.395, 0.396, 0.396, 0.396], HEAD, gflops=1.0)
    assert search.train(head) == Go()


def test_curves_at_chance_stop_no_head():
    search = Search()
    search.finish(trial_of(0, PRETRAINED_GAINS, BLOCKS, gflops=0.9))
    for number in range(1, 4):
        search.finish(trial_of(number, LEARNS_NOTHING, CNN | {"seed": number}, gflops=0.5))
    assert search.train(trial_of(4, [0.396, 0.4, 0.5, 0.6, 0.7, 0.8], HEAD)) == Go()


def test_a_trial_leaves_chance_in_time_or_as_late_as_one_like_it_did():
    assert Search().train(trial_of(0, [0.02, 0.05, 0.02, 0.2, 0.4, 0.6], CNN)) == Go()
    assert isinstance(Search().train(trial_of(0, LEARNS_LATE, CNN)), Stop)
    search = Search()
    search.finish(trial_of(0, LEARNS_LATE, CNN, gflops=9.0))
    assert search.train(trial_of(1, LEARNS_LATE, CNN)) == Go()
    # Of other knowledge, it says nothing.
    assert isinstance(search.train(trial_of(2, LEARNS_LATE, HEAD)), Stop)


def test_one_that_falls_back_to_chance_is_stopped_too():
    fell = trial_of(0, [0.3, 0.4, 0.025, 0.025, 0.025, 0.025], CNN)
    decision = Search().train(fell)
    assert isinstance(decision, Stop)
    assert len(fell.epochs) == 4


@pytest.mark.parametrize(
    ("chance", "settings"),
    [
        (None, {}),
        (CHANCE, {"outlook": False}),
        # Thirty images can't tell guessing from a good model.
        (chance_of("accuracy", [15, 15]), {}),
        # Nor can a hundred where 98 of them are of one class.
        (chance_of("accuracy", [98, 2]), {}),
    ],
)
def test_where_chance_is_unknown_or_can_not_be_told_nothing_is_stopped_for_it(
    chance: Chance | None, settings: dict[str, Any]
):
    assert Search(chance, **settings).train(trial_of(0, LEARNS_NOTHING, CNN)) == Go()


def test_before_any_trial_has_learned_none_is_stopped_for_learning_nothing():
    search = Search()
    search.trials.clear()
    one = trial_of(0, LEARNS_NOTHING, CNN)
    search.trials[0] = one
    assert search.train(one) == Go()
    search.trials[1] = TrialRecord(number=1, rungs={1: 0.2})
    assert isinstance(search.train(trial_of(2, LEARNS_NOTHING, CNN)), Stop)


@pytest.mark.parametrize(
    ("accuracy", "explained"),
    [(0.0, True), (0.11, True), (0.17, False), (0.2, False), (0.28, True), (0.34, True), (0.4, 0)],
)
def test_guessing_explains_one_class_in_ten_and_the_largest_class(accuracy: float, explained: bool):
    # Two standard errors: 0.03 around 0.1, 0.046 around 0.3.
    chance = chance_of("accuracy", [120, *[32] * 4, *[30] * 4, 32])
    assert chance.value == 0.3
    assert chance.explains(accuracy) == explained


def test_a_trial_that_can_not_reach_a_bound_on_accuracy_is_stopped():
    bound = read_study_constraint("accuracy", ">= 0.5")
    search = Search(objectives=objectives_of(dict(OBJECTIVES), [bound]))
    for number in range(3):
        gains_little = [0.3, 0.32, 0.33, 0.34, 0.35, 0.35]
        search.finish(trial_of(number, gains_little, CNN | {"seed": number}, gflops=9.0))
    decision = search.train(trial_of(3, [0.3, 0.31, 0.31, 0.32, 0.33, 0.34], CNN, gflops=0.1))
    assert isinstance(decision, Stop)
    assert decision.reason == (
        "out of reach: at best it would end at 35.0 %, which breaks accuracy>=0.5"
    )
