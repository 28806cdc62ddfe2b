"""Deciding by expected gain: the model of curves, the area of a front, proposals, and pauses."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pytest
from ledger_runs import CONDITIONAL, Run, made_up_cost, objectives_of, recipe_of, space_of
from optuna.trial import TrialState
from searches import metrics

from search.decisions.budget import Budget
from search.decisions.gain import curves
from search.decisions.gain.curves import CurveModel, Points
from search.decisions.gain.encoding import Encoding
from search.decisions.gain.first_design import cheapest_along, pretrained_heads
from search.decisions.gain.fresh import FreshRecipes
from search.decisions.gain.front_area import FrontArea
from search.decisions.gain.index import milestones
from search.decisions.gain.rule import GainRule
from search.decisions.stopping import Pause
from search.decisions.stopping_rules import EarlyStoppingSettings, build_stopping_rule
from search.decisions.trial_record import TrialRecord
from search.simulation.reading import read_benchmark
from search.simulation.simulator import SimulatedSearch, SimulationSettings, simulate
from spaces.constraints import Constraint
from spaces.recipe import Recipe
from spaces.suggesters import RandomTrial

CURVES = Path(__file__).parents[1] / "benchmarks" / "curves"
EPOCHS = 9
CONTENT: dict[str, Any] = {
    "input_size": {"int": [32, 128], "step": 16},
    "width": [0.25, 0.5, 1.0],
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"log": [1e-4, 1e-1]},
    "epochs": EPOCHS,
}
PRETRAINED: dict[str, Any] = {
    "model": ["baseline_cnn", "mobilenet_v2", "resnet18"],
    "weights": {"fixed": "imagenet", "when": {"model": ["mobilenet_v2", "resnet18"]}},
    "input_size": [96, 160],
    "unfrozen": {"int": [0, 8], "when": {"weights": "imagenet"}},
    "learning_rate": {"log": [1e-4, 1e-1]},
    "batch_size": [16, 64],
    "epochs": 4,
}
OBJECTIVES = {"accuracy": "max", "effective_gflops": "min"}


# The area of a front


def volume(costs: np.ndarray, accuracies: np.ndarray) -> float:
    """By moocore, up to a cost of 1.1 and down to an accuracy of 0.1."""
    losses = np.column_stack([-accuracies, costs])
    return float(moocore.hypervolume(losses, ref=[-0.1, *[1.1] * costs.shape[1]]))


@pytest.mark.parametrize(("num_costs", "tolerance"), [(1, 1e-12), (2, 0.03), (3, 0.08)])
def test_the_gain_is_the_hypervolume_that_a_model_adds(num_costs: int, tolerance: float):
    rng = np.random.default_rng(0)
    costs, accuracies = rng.random((12, num_costs)) * 0.8, rng.random(12)
    front = FrontArea(costs, accuracies, floor=0.1)
    news, expected = rng.random((20, num_costs)) * 0.5, rng.random((20, 3))
    weights = np.array([0.2, 0.5, 0.3])
    gains = front.gains(news, expected, weights)
    before = volume(costs, accuracies)
    for new, cases, gain in zip(news, expected, gains, strict=True):
        added = [
            volume(np.vstack([costs, new]), np.append(accuracies, accuracy)) - before
            for accuracy in cases
        ]
        assert gain == pytest.approx(weights @ added, abs=tolerance)


@pytest.mark.parametrize("num_costs", [0, 1, 2])
def test_only_models_on_the_edge_of_an_area_matter_to_it(num_costs: int):
    rng = np.random.default_rng(0)
    costs, accuracies = rng.random((12, num_costs)), rng.random(12)
    front = FrontArea(costs, accuracies, floor=0.1)
    inside = np.array([at for at in range(12) if at not in front.edge])
    assert 0 < len(front.edge) < 12

    def gains(left_out: int) -> np.ndarray:
        rest = FrontArea(np.delete(costs, left_out, 0), np.delete(accuracies, left_out), floor=0.1)
        return rest.gains(costs, np.ones((12, 1)))

    whole = front.gains(costs, np.ones((12, 1)))
    for at in inside.tolist():
        assert gains(at) == pytest.approx(whole)
    assert any(gains(at) != pytest.approx(whole) for at in front.edge.tolist())


def test_without_costs_the_gain_is_the_accuracy_above_the_best():
    front = FrontArea(np.empty((2, 0)), np.array([0.5, 0.7]), floor=0.1)
    gains = front.gains(np.empty((3, 0)), np.array([[0.6], [0.7], [0.9]]))
    assert gains == pytest.approx([0.0, 0.0, 0.2])


# The model of curves


def points_of(rows: Sequence[tuple[float, int, int]], recipes: dict[int, list[float]]) -> Points:
    """rows: (time, schedule, trial); recipes: of each trial."""
    trials = sorted({trial for *_, trial in rows})
    return Points(
        recipes=np.array([recipes[trial] for trial in trials]),
        which=np.array([trials.index(trial) for *_, trial in rows]),
        times=np.array([time for time, *_ in rows]),
        schedules=np.array([schedule for _, schedule, _ in rows]),
        trials=np.array([trial for *_, trial in rows]),
    )


ENCODING = Encoding(
    space_of({"learning_rate": {"log": [1e-4, 1e-1]}, "optimizer": ["adam", "sgd"]}).rules
)
RECIPES = {0: [0.2, 0.0], 1: [0.3, 0.0], 2: [0.9, 1.0], 3: [0.5, 0.0]}
ROWS = [(0.0, 0, 0), (0.5, 0, 0), (1.0, 0, 0), (0.0, 0, 1), (0.5, 0, 1), (0.0, 0, 2), (1.0, 0, 2)]
ACCURACIES = np.array([0.3, 0.5, 0.8, 0.35, 0.55, 0.1, 0.2])


def at_the_end(trial: int, recipe: int | None = None) -> Points:
    return points_of([(1.0, 0, trial)], {trial: RECIPES[trial if recipe is None else recipe]})


def test_a_trial_that_ended_is_known_and_one_like_it_is_nearly_known():
    model = CurveModel(ENCODING, points_of(ROWS, RECIPES), ACCURACIES)
    own = model.predict(at_the_end(0))
    assert own.accuracies(np.zeros(1))[0, 0] == pytest.approx(0.8, abs=0.02)
    again = model.predict(at_the_end(-1, recipe=0))
    assert again.accuracies(np.zeros(1))[0, 0] == pytest.approx(0.8, abs=0.08)
    assert again.deviation[0] > own.deviation[0]
    unlike = model.predict(at_the_end(3))
    assert unlike.deviation[0] > again.deviation[0]


def test_a_running_trial_is_foretold_from_its_curve_and_from_those_of_others():
    model = CurveModel(ENCODING, points_of(ROWS, RECIPES), ACCURACIES)
    middle = model.predict(at_the_end(1)).accuracies(np.zeros(1))[0, 0]
    assert 0.7 < middle < 0.9  # it was ahead of trial 0, which ended at 0.8


def test_epochs_that_come_later_count_as_if_the_model_had_been_fitted_to_them(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(curves, "_OWN_SCALES", (1.0,))  # else each model chooses its own
    all_rows = points_of(ROWS, RECIPES)
    whole = CurveModel(ENCODING, all_rows, ACCURACIES)
    left_out = [3, 4]
    kept = [position for position in range(len(ROWS)) if position not in left_out]
    part = CurveModel(
        ENCODING, points_of([ROWS[position] for position in kept], RECIPES), ACCURACIES[kept]
    )
    later = points_of([ROWS[position] for position in left_out], RECIPES)
    given = part.predict_given(at_the_end(1), later, ACCURACIES[left_out])
    # Only the centre differs: the mean of all observations.
    shift = whole.predict(at_the_end(1)).mean - given.mean
    assert abs(shift[0]) < 0.1
    assert given.deviation == pytest.approx(whole.predict(at_the_end(1)).deviation, rel=1e-6)


def test_a_dimension_that_only_one_recipe_has_counts_as_a_mismatch():
    encoding = Encoding(space_of(PRETRAINED).rules)

    def at(model: str, unfrozen: int) -> list[float]:
        weights = "none" if model == "baseline_cnn" else "imagenet"
        fields = {"model": model, "weights": weights, "unfrozen": unfrozen}
        return encoding.encode([{**Recipe().to_dict(), **fields}])[0].tolist()

    cnn, head, deep = at("baseline_cnn", 0), at("mobilenet_v2", 0), at("mobilenet_v2", 8)
    alike, joint = encoding.similarity(np.array([cnn, head]), np.array([cnn, head, deep]))
    assert alike[0, 0] == joint[0, 0] == alike[1, 1] == joint[1, 1] == 1.0
    assert joint[0, 1] == joint[0, 2]  # absent is as far from every number
    # What the space does not draw there does not count.
    np.testing.assert_array_equal(at("baseline_cnn", 8), cnn)


# Candidates


def test_the_first_trials_are_the_heads_of_pretrained_models_at_each_size():
    heads = pretrained_heads(space_of(PRETRAINED), seed=0)
    assert [(one.model, one.input_size) for one in heads] == [
        ("mobilenet_v2", 96),
        ("mobilenet_v2", 160),
        ("resnet18", 96),
        ("resnet18", 160),
    ]
    assert {(one.unfrozen, one.weights) for one in heads} == {(0, "imagenet")}
    # Other fields as recipes have them by default, or as near as the space allows.
    assert {(one.learning_rate, one.batch_size) for one in heads} == {(1e-3, 16)}


def test_heads_come_with_each_weights_of_a_choice():
    content = {**PRETRAINED, "model": "mobilenet_v2", "weights": ["none", "imagenet"]}
    assert {one.weights for one in pretrained_heads(space_of(content), seed=0)} == {"imagenet"}


def test_a_space_without_pretrained_models_has_no_heads_to_begin_with():
    assert pretrained_heads(space_of(CONTENT), seed=0) == []
    frozen = {"model": "mobilenet_v2", "unfrozen": {"int": [0, 4]}, "epochs": 2}
    assert pretrained_heads(space_of(frozen), seed=0) == []


def test_of_each_eighth_of_the_costs_the_quickest_begins():
    costs = np.arange(16.0)
    seconds = np.tile([2.0, 1.0], 8)
    assert cheapest_along(costs, seconds) == list(range(1, 16, 2))
    assert cheapest_along(np.zeros(3), np.array([3.0, 2.0, 1.0])) == [0, 1, 2]


def test_recipes_near_another_one_differ_in_one_field_and_what_follows_from_it():
    space = space_of(PRETRAINED)
    recipe = Recipe(
        model="mobilenet_v2",
        weights="imagenet",
        input_size=96,
        unfrozen=3,
        learning_rate=0.01,
        batch_size=16,
        epochs=4,
    )
    fresh = FreshRecipes(space)
    near = fresh.near([recipe], seed=1, count=200)
    assert near == fresh.near([recipe], seed=1, count=200)
    changes = [
        {field for field, value in one.to_dict().items() if value != recipe.to_dict()[field]}
        for one in near
    ]
    assert {frozenset(change) for change in changes if len(change) > 1} == {
        frozenset({"model", "weights", "unfrozen"})
    }
    assert {next(iter(change)) for change in changes if len(change) == 1} == {
        *("model", "input_size", "unfrozen", "learning_rate", "batch_size")
    }


# Proposals


def search(run: Run, trials: int) -> list[TrialRecord]:
    """One worker, every trial to its end; its accuracy grows with its rate and its size."""
    for _ in range(trials):
        record = run.ask()
        run.finish(record)
    return list(run.ledger.records.values())


def test_candidates_keep_the_bounds_on_costs(tmp_path: Path):
    bound = Constraint(column="effective_gflops", sign="<=", bound=1.6)
    run = Run(tmp_path, sampler="gain", constraints=[bound])
    records = search(run, 20)
    assert all(not record.refused for record in records)
    assert all(made_up_cost(recipe_of(one)).effective_gflops <= 1.6 for one in records)
    drawn = [space_of(CONDITIONAL).suggest(RandomTrial(seed)) for seed in range(50)]
    assert any(made_up_cost(recipe).effective_gflops > 1.6 for recipe in drawn)


def test_bounds_that_the_first_architectures_break_leave_others(tmp_path: Path):
    bound = Constraint(column="effective_gflops", sign="<=", bound=1.25)
    content = {"input_size": {"int": [32, 512]}, "width": {"float": [0.25, 1.0]}, "epochs": 2}
    run = Run(tmp_path, sampler="gain", content=content, constraints=[bound])
    records = search(run, 10)
    assert not any(record.refused for record in records)
    assert len({_cost(record) for record in records}) > 3


def test_a_recipe_beyond_the_space_counts_on_the_front(tmp_path: Path):
    small = {"input_size": [32, 48, 64], "learning_rate": {"log": [1e-4, 1e-1]}, "epochs": 2}
    run = Run(tmp_path, sampler="gain", content=small)
    run.ledger.enqueue([Recipe(input_size=512, epochs=2)])
    large = run.ask()
    assert recipe_of(large).input_size == 512
    run.ledger.report(large.number, [metrics(1, 0.5)])
    assert run.ledger.index.outlooks([large])[0].gain > 0


def test_the_front_of_earlier_runs_comes_first_and_costs_nothing(tmp_path: Path):
    first = Run(tmp_path / "first", sampler="gain")
    earlier = [
        replace(record, number=-1 - record.number)
        for record in search(first, 12)
        if record.state == TrialState.COMPLETE
    ]
    again = Run(tmp_path / "again", sampler="gain", earlier=earlier)
    new = again.ask()
    taken = [one for one in again.ledger.records.values() if one is not new]
    assert {one.key for one in taken} == {one.key for one in first.ledger.front()}
    assert all(one.reused is not None for one in taken)
    assert new.key not in {one.key for one in earlier}


def test_no_recipe_is_proposed_twice_while_others_are_left(tmp_path: Path):
    small = {"input_size": [32, 64, 96], "batch_size": [16, 32], "epochs": 2}
    run = Run(tmp_path, sampler="gain", content=small)
    recipes = [recipe_of(record) for record in search(run, 6)]
    assert len(set(recipes)) == 6


@pytest.mark.parametrize("every", [1, 3])
def test_an_interruption_changes_nothing_with_one_worker(every: int, tmp_path: Path):
    straight, interrupted = (
        Run(tmp_path / name, sampler="gain", content=CONTENT, rule=GainRule())
        for name in ("straight", "interrupted")
    )
    made = [steps(straight, 40, every=None), steps(interrupted, 40, every=every)]
    assert made[0] == made[1]
    assert any("paused" in step for step in made[0])


def steps(run: Run, count: int, *, every: int | None) -> list[tuple[Any, ...]]:
    """What one worker does in so many epochs; every: reopen the study after so many of them."""
    found: list[tuple[Any, ...]] = []
    record = run.ask()
    for step in range(count):
        if every and step and step % every == 0:
            number, known = record.number, record.epochs
            run.reopen_with(GainRule())
            record = run.ask()
            assert record.number == number
            if known:  # it goes on from its checkpoint
                run.ledger.report(number, known)
        epoch = len(record.epochs) + 1
        recipe = recipe_of(record)
        best = 0.9 - abs(math.log10(recipe.learning_rate) + 2.5) / 4
        accuracy = best * (1 - 0.7 ** (epoch * recipe.width))
        decision = run.ledger.report(record.number, [metrics(epoch, accuracy)])
        if isinstance(decision, Pause):
            run.ledger.pause(record.number, decision.reason)
            found.append((record.number, epoch, "paused", decision.reason))
            record = run.ask()
        elif epoch == EPOCHS:
            run.ledger.complete(record.number)
            found.append((record.number, epoch, "complete", recipe))
            record = run.ask()
        else:
            found.append((record.number, epoch, "goes on", recipe))
    return found


@pytest.mark.parametrize(
    ("limit", "pauses"), [(None, True), ("trials", False), ("hours", False), ("plateau", False)]
)
def test_a_trial_is_paused_only_for_one_that_may_take_its_place(
    limit: str | None, pauses: bool, tmp_path: Path
):
    run = Run(tmp_path, sampler="gain", content=CONTENT, rule=GainRule())
    good = run.ask()
    for epoch in range(1, EPOCHS + 1):
        run.ledger.report(good.number, [metrics(epoch, 0.9)])
    run.ledger.complete(good.number)
    poor = next(one for one in iter(run.ask, None) if _cost(one) >= _cost(good))
    run.ledger.limit_by(lambda: limit)
    decision = run.ledger.report(poor.number, [metrics(1, 0.05)])
    assert isinstance(decision, Pause) == pauses


def _cost(record: TrialRecord) -> float:
    return made_up_cost(recipe_of(record)).effective_gflops


def test_milestones_grow_by_half():
    assert milestones(20) == (1, 2, 3, 4, 6, 9, 13, 19)
    assert milestones(1) == (1,)


def test_a_rule_without_a_metric_pauses_nothing():
    settings = EarlyStoppingSettings(name="gain")
    costs = objectives_of({"gflops": "min", "size_mb": "min"})
    assert not isinstance(build_stopping_rule(settings, costs), GainRule)


def test_a_search_of_costs_alone_goes_to_the_cheapest(tmp_path: Path):
    run = Run(tmp_path, sampler="gain", content=CONTENT, objectives={"gflops": "min"})
    records = search(run, 12)
    costs = [made_up_cost(recipe_of(record)).gflops for record in records]
    assert min(costs) == made_up_cost(Recipe(input_size=32, width=0.25)).gflops


# Whole searches, in simulated time


def replay(sampler: str, stopping: str, **changes: Any) -> SimulatedSearch:
    settings = SimulationSettings(
        sampler=sampler,
        early_stopping=EarlyStoppingSettings(name=stopping),
        workers=4,
        budget=Budget(trials=60),
    )
    return simulate(read_benchmark(CURVES), replace(settings, **changes))


def seconds_to(share: float, done: SimulatedSearch) -> float:
    return next((one.seconds for one in done.growth if one.hypervolume >= share), math.inf)


def test_the_front_is_found_sooner_and_the_budget_is_kept():
    gain, tpe = replay("gain", "gain"), replay("tpe", "pareto")
    assert seconds_to(0.95, gain) < seconds_to(0.95, tpe)
    assert sum(gain.counts.values()) == 60
    assert gain.counts[TrialState.COMPLETE.name] > 0
    assert gain.counts[TrialState.PRUNED.name] > gain.counts[TrialState.COMPLETE.name]


def test_with_many_workers_proposals_differ():
    many = replay("gain", "gain", workers=64, budget=Budget(trials=128))
    assert sum(many.counts.values()) == 128
    assert seconds_to(0.9, many) < seconds_to(0.9, replay("gain", "gain"))
