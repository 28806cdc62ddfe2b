import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from searches import SPACE, write_study

from search.planning.calibration import Timed, calibrate
from search.planning.candidates import Candidate, choose_probes, draw_candidates
from search.planning.dry_run import estimate_study, project
from search.planning.estimate import Estimate, estimate_table
from search.planning.forecast import (
    epochs_left_by_stopping,
    expected_epochs,
    range_of,
    run_through,
    share_that_goes_on,
)
from search.planning.memory_estimate import fit_parts
from search.planning.probe_processes import Probed, run_probes
from search.study.study import Study, load_study
from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.costing.training_cost import training_effort
from trainables.data.dataset import ImageData


def study_on(folder: Path, data: ImageData, **changes: Any) -> Study:
    return load_study(write_study(folder, data, **{"early_stopping": {"name": "none"}, **changes}))


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory, demo_data: ImageData) -> list[Candidate]:
    return draw_candidates(study_on(tmp_path_factory.mktemp("drawn"), demo_data), num_classes=3)


@pytest.fixture(scope="module")
def probed(candidates: list[Candidate], demo_data: ImageData) -> Probed:
    """What the probes of the tiny space took, measured once."""
    recipes = [candidate.recipe for candidate in choose_probes(candidates)]
    synced_run = [recipes[0].replace(augment="light")]
    return run_probes(
        recipes,
        synced_run,
        demo_data,
        workers=1,
        num_gpus=0,
        threads=1,
        tell=lambda _: None,
        seconds=0.5,
    )


def test_a_dry_run_tells_what_a_study_takes_and_writes_nothing(
    tmp_path: Path, demo_data: ImageData
):
    study = study_on(tmp_path, demo_data, space={**SPACE, "input_size": 48, "width": 0.1})
    message: list[str] = []
    estimate = estimate_study(study, tell=message.append, probe_seconds=0.5)
    assert not study.folder.exists()
    assert "checking the study" in message
    assert any("probe 1 of" in line for line in message)
    assert estimate.trials.low == estimate.trials.high == 4
    for numbers in (estimate.trial_seconds, estimate.hours, estimate.worker_hours):
        assert 0 < numbers.low <= numbers.middle <= numbers.high
    assert estimate.hours.middle <= estimate.worker_hours.middle + 1
    assert 0 < estimate.disk_gb < estimate.free_disk_gb
    assert 0.1 < estimate.memory_gb < 100
    assert estimate.gpu_memory_gb == 0
    assert 1 <= len(estimate.probes) <= 3
    assert all(probe.epoch_seconds > 0 for probe in estimate.probes)
    assert json.loads(json.dumps(estimate.to_dict(), allow_nan=False))["study"] == "tiny"


def test_the_table_tells_everything_in_80_columns(
    tmp_path: Path, demo_data: ImageData, candidates: list[Candidate], probed: Probed
):
    estimate = projected(study_on(tmp_path, demo_data), demo_data, candidates, probed)
    screen = Console(width=80, record=True, file=StringIO())
    screen.print(estimate_table(replace(estimate, memory_gb=200.0, machine_memory_gb=16.0)))
    text = screen.export_text()
    for word in ("trials", "time", "worker time", "disk", "200 GB of 16 GB", "too much"):
        assert word in text
    assert " ".join(estimate.doubt.split()[:3]) in text


@pytest.mark.parametrize("workers", [1, 2])
def test_twice_the_trials_take_twice_as_long(
    workers: int, tmp_path: Path, demo_data: ImageData, candidates: list[Candidate], probed: Probed
):
    once, twice = (
        projected(
            study_on(tmp_path, demo_data, budget={"trials": trials}),
            demo_data,
            candidates,
            probed,
            workers=workers,
        )
        for trials in (400, 800)
    )
    assert twice.trials.middle == 2 * once.trials.middle
    # Each simulated search draws anew, and its probes are off by another factor.
    assert twice.worker_hours.middle / once.worker_hours.middle == pytest.approx(2, rel=0.2)
    assert twice.hours.middle == pytest.approx(twice.worker_hours.middle / workers, rel=0.2)
    assert twice.disk_gb > once.disk_gb


def test_hours_and_worker_hours_bound_the_trials(
    tmp_path: Path, demo_data: ImageData, candidates: list[Candidate], probed: Probed
):
    hours = projected(
        study_on(tmp_path, demo_data, budget={"hours": 0.1}),
        demo_data,
        candidates,
        probed,
        workers=4,
    )
    assert hours.hours.middle == pytest.approx(0.1, rel=0.1)
    spent = projected(
        study_on(tmp_path, demo_data, budget={"worker_hours": 0.1}),
        demo_data,
        candidates,
        probed,
        workers=4,
    )
    assert spent.worker_hours.middle == pytest.approx(0.1, rel=0.1)
    assert spent.trials.middle == pytest.approx(hours.trials.middle / 4, rel=0.2)


def test_early_stopping_makes_trials_shorter(
    tmp_path: Path, demo_data: ImageData, candidates: list[Candidate], probed: Probed
):
    longer = [replace(each, recipe=each.recipe.replace(epochs=9)) for each in candidates]
    took = replace(
        probed,
        probes=tuple(
            replace(probe, recipe=probe.recipe.replace(epochs=9)) for probe in probed.probes
        ),
    )
    settings = {"name": "pareto", "min_epochs": 1, "reduction": 3}
    stopped = study_on(tmp_path, demo_data, early_stopping=settings)
    shorter = projected(stopped, demo_data, longer, took)
    whole = projected(study_on(tmp_path, demo_data), demo_data, longer, took)
    assert shorter.trial_seconds.middle < whole.trial_seconds.middle


def test_a_small_space_is_not_trained_twice(
    tmp_path: Path, demo_data: ImageData, candidates: list[Candidate], probed: Probed
):
    single = [replace(candidates[0], recipe=probed.probes[0].recipe)] * 8
    took = replace(probed, probes=probed.probes[:1])
    few, many = (
        projected(study_on(tmp_path, demo_data, budget={"trials": trials}), demo_data, single, took)
        for trials in (1, 11)
    )
    added = many.worker_hours.middle - few.worker_hours.middle
    assert added * 3600 == pytest.approx(1.0)  # ten times what lies between two trials


def test_the_first_trial_pays_for_frozen_features(
    tmp_path: Path, demo_data: ImageData, candidates: list[Candidate], probed: Probed
):
    recipe = Recipe(model="mobilenet_v2", unfrozen=2, epochs=3)
    num_train, num_validation = (len(demo_data.rows(split)) for split in ("train", "validation"))
    effort = training_effort(
        recipe,
        num_classes=len(demo_data.classes),
        num_train=num_train,
        num_validation=num_validation,
    )
    [features] = effort.shared
    # A machine of half the speed, where building a model takes 1 s.
    probe = replace(
        probed.probes[0],
        recipe=recipe,
        train_images=num_train,
        validation_images=num_validation,
        epoch_seconds=2 * effort.epoch,
        setup_seconds=2 * features.seconds + 1,
        save_seconds=0.0,
    )
    one, two = (
        projected(
            study_on(tmp_path, demo_data, budget={"trials": trials}),
            demo_data,
            [replace(candidates[0], recipe=recipe)],
            replace(probed, probes=(probe,)),
        ).worker_hours.middle
        for trials in (1, 2)
    )
    trial, once = two - one, one - (two - one)
    assert once / trial == pytest.approx(2 * features.seconds / (1.1 + 3 * 2 * effort.epoch))


def test_resized_images_that_are_missing_take_disk(
    tmp_path: Path,
    demo_data: ImageData,
    candidates: list[Candidate],
    probed: Probed,
    monkeypatch: pytest.MonkeyPatch,
):
    study = study_on(tmp_path, demo_data)
    monkeypatch.setenv("FLOPWISE_CACHE", str(tmp_path / "cache"))
    missing = projected(study, demo_data, candidates, probed)
    demo_data.at_size(48)
    there = projected(study, demo_data, candidates, probed)
    assert (missing.disk_gb - there.disk_gb) * 1e9 == pytest.approx(len(demo_data) * 48 * 48 * 3)


def test_probes_are_timed_weighed_and_measured(probed: Probed):
    assert len(probed.probes) == 3
    assert len({probe.recipe.key for probe in probed.probes}) == 3
    assert all(probe.epoch_seconds > 0 and probe.checkpoint_bytes > 0 for probe in probed.probes)
    assert probed.idle_bytes > 50e6
    [((augment, _), seconds)] = probed.augment_seconds.items()
    assert augment == "light"
    assert seconds > 0


def test_probes_differ_in_their_arithmetic_and_in_their_models(candidates: list[Candidate]):
    chosen = choose_probes(candidates)
    gflops = [candidate.training_gflop for candidate in chosen]
    assert gflops == sorted(gflops)
    assert gflops[0] < gflops[-1]
    other = replace(candidates[0], recipe=Recipe(model="resnet18"))
    models = {candidate.recipe.model for candidate in choose_probes([*candidates, *[other] * 256])}
    assert models == {"baseline_cnn", "resnet18"}


def test_frozen_blocks_take_no_backward_arithmetic(tmp_path: Path, demo_data: ImageData):
    shares = {}
    for unfrozen in (0, 2, 4, None):
        study = study_on(tmp_path, demo_data, space={**SPACE, "unfrozen": unfrozen})
        shares[unfrozen] = draw_candidates(study, num_classes=3)[0].trained_share
    assert 0 < shares[0] < shares[2] < shares[4] == shares[None] == 1


def test_candidates_keep_the_constraints(tmp_path: Path, demo_data: ImageData):
    bound = {"gflops": "<= 0.003"}
    study = study_on(tmp_path, demo_data, constraints=bound)
    kept = draw_candidates(study, num_classes=3)
    assert 0 < len(kept) < 256
    assert all(candidate.cost.gflops <= 0.003 for candidate in kept)
    study = study_on(tmp_path, demo_data, constraints={"gflops": "<= 0.0000001"})
    with pytest.raises(UserError, match="constraints: none of 256 recipes drawn keeps gflops<=1e"):
        draw_candidates(study, num_classes=3)


def test_a_bound_on_accuracy_excludes_no_candidate(tmp_path: Path, demo_data: ImageData):
    study = study_on(tmp_path, demo_data, constraints={"accuracy": ">= 0.99"})
    assert len(draw_candidates(study, num_classes=3)) > 0


def test_a_study_that_cannot_work_is_refused_before_any_probe(tmp_path: Path, demo_data: ImageData):
    message: list[str] = []
    study = study_on(tmp_path, demo_data)
    greedy = study_on(tmp_path, demo_data, resources={"cpus": 10_000})
    too_large = study_on(tmp_path, demo_data, space={**SPACE, "input_size": 128})
    for broken, line in (
        (too_large, "holds images of 64 px"),
        (greedy, "resources.cpus: a trial takes"),
        (replace(study, data=tmp_path / "nowhere"), "there is no such folder"),
    ):
        with pytest.raises(UserError, match=line):
            estimate_study(broken, tell=message.append)
    assert not any("probe" in line for line in message)


def test_a_probe_that_fails_is_told_with_its_recipe(
    candidates: list[Candidate], demo_data: ImageData
):
    broken = candidates[0].recipe.replace(unfrozen=99)
    with pytest.raises(UserError, match=r"a probe failed: baseline_cnn.*has 4 blocks, not 99"):
        run_probes([broken], [], demo_data, workers=1, num_gpus=0, threads=1, tell=lambda _: None)


def test_trials_go_to_the_worker_that_is_free_first():
    course = run_through([3.0, 1.0, 1.0, 1.0, 2.0], workers=2, trials=5)
    assert (course.trials, course.seconds, course.worker_seconds) == (5, 5.0, 8.0)
    assert run_through([2.0] * 9, workers=3, trials=6).seconds == 4.0


def test_no_trial_starts_after_the_hours_or_the_worker_hours():
    hour = 3600.0
    course = run_through([hour] * 100, workers=2, hours=1.5)
    assert (course.trials, course.seconds) == (4, 2 * hour)
    assert run_through([hour] * 100, workers=2, worker_hours=5).trials == 5
    assert run_through([hour] * 100, workers=2, trials=3, hours=50, worker_hours=50).trials == 3


def test_epochs_that_early_stopping_leaves_follow_the_closed_form():
    assert expected_epochs(27, [1, 3, 9], 3) == pytest.approx(1 + 2 / 3 + 6 / 9 + 18 / 27)
    assert expected_epochs(5, [], 3) == 5
    assert expected_epochs(5, [5, 9], 3) == 5
    assert expected_epochs(4, [2], 2) == 3
    assert expected_epochs(4, [2], 2, trials=1) == 4


@pytest.mark.parametrize("trials", [1, 7, 40])
def test_the_share_that_goes_on_is_that_of_trials_in_random_order(trials: int):
    rng = np.random.default_rng(0)
    went_on = 0
    for _ in range(4000):
        losses = rng.random(trials)
        for number in range(1, trials + 1):
            ahead = int((losses[: number - 1] < losses[number - 1]).sum())
            went_on += ahead < math.ceil(number / 3)
    expected = share_that_goes_on(trials, 3)
    assert went_on / 4000 / trials == pytest.approx(expected, abs=0.02)


def test_endlessly_many_trials_go_on_by_the_reduction_alone():
    assert share_that_goes_on(None, 4) == 0.25
    assert share_that_goes_on(10_000, 4) == pytest.approx(0.25, abs=0.001)


def test_a_rule_without_a_reduction_is_assumed_to_train_a_third_of_27_epochs(
    tmp_path: Path, demo_data: ImageData
):
    study = study_on(tmp_path, demo_data, early_stopping={"name": "gain"})
    assert epochs_left_by_stopping(study, 27) / 27 == pytest.approx(0.31, abs=0.01)
    assert epochs_left_by_stopping(study_on(tmp_path, demo_data), 27) == 27


def test_the_factor_of_a_machine_is_the_geometric_mean_by_model():
    measured = calibrate([Timed("a", 1.0, 2.0), Timed("a", 8.0, 1.0), Timed("b", 4.0, 1.0)])
    assert measured.factor("a") == pytest.approx(2.0)
    assert measured.factor("b") == pytest.approx(4.0)
    assert measured.factor("c") == pytest.approx(16 ** (1 / 3))
    assert sorted(measured.errors) == pytest.approx([-math.log(4), 0, math.log(4)])
    unknown = calibrate([Timed("a", 0.0, 1.0)])
    assert (unknown.factor("a"), unknown.overall) == (1, 1)


def test_the_spread_of_probes_is_shrunk_towards_the_usual_one():
    agree = calibrate([Timed("a", 2.0, 1.0), Timed("a", 4.0, 2.0)])
    differ = calibrate([Timed("a", 2.0, 1.0), Timed("a", 4.0, 1.0)])
    assert agree.spread(0.3) < 0.3 < differ.spread(0.3)
    assert calibrate([Timed("a", 2.0, 1.0)]).spread(0.3) == pytest.approx(0.3)


def test_a_fit_finds_what_the_parts_take():
    amounts = np.array([[100, 1e-3], [100, 1e3], [50, 1e4]])
    fit = fit_parts(amounts, amounts @ np.array([0.01, 0.002]))
    assert fit.unit_of == pytest.approx([0.01, 0.002])
    assert fit.ratio_of([False, False, False]) == 1
    off = fit_parts(np.ones((2, 1)), np.array([1.0, 2.0]))
    assert off.ratio_of([True, False]) < 1 < off.ratio_of([False, True])


def test_a_fit_takes_no_part_below_nothing():
    fit = fit_parts(np.array([[1.0, 1.0], [1.0, 2.0]]), np.array([2.0, 1.0]))
    assert fit.unit_of.min() == 0


def test_a_range_goes_from_the_tenth_to_the_ninetieth_percentile():
    numbers = range_of(np.arange(101.0))
    assert (numbers.low, numbers.middle, numbers.high) == (10, 50, 90)


def projected(
    study: Study,
    data: ImageData,
    candidates: list[Candidate],
    probed: Probed,
    *,
    workers: int = 1,
) -> Estimate:
    return project(study, data, candidates, probed, workers=workers, start_seconds=0.0)
