"""Estimates what a study will take: trials, time, disk and memory.

Recipes are drawn at random. A sampler that learns may prefer cheaper or more expensive ones. Their
times follow from arithmetic (`training_effort`). Up to three are trained for a moment, to learn how
fast this machine is. The first trial that needs frozen features pays for them, even if an earlier
search left them in the cache. The estimate ignores that a plateau may end the search, and the load
of other programs.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from search.cluster.capacity import workers_at_most
from search.planning.calibration import Calibration, Timed, calibrate
from search.planning.candidates import Candidate, choose_probes, draw_candidates
from search.planning.estimate import Estimate, ProbeTime
from search.planning.forecast import (
    Course,
    epochs_left_by_stopping,
    range_of,
    run_through,
)
from search.planning.memory_estimate import (
    RAY_BYTES,
    checkpoint_bytes,
    machine_bytes,
    resized_bytes,
    worker_bytes,
)
from search.planning.probe_processes import (
    PROBE_OVERRIDES,
    PROBE_SECONDS,
    Probe,
    Probed,
    run_probes,
)
from search.planning.resource_tuning import available_resources, decide_resources
from search.study.preflight import check_study
from search.study.study import AUTO, Study
from spaces.columns import FloatArray
from spaces.recipe import Recipe, recipe_from
from trainables.costing.effort import Effort
from trainables.costing.training_cost import training_effort
from trainables.data.copying import open_near_data
from trainables.data.dataset import ImageData
from trainables.system.shared_cache import free_bytes

_NUM_COURSES = 100
_MAX_SIMULATED_TRIALS = 500_000
# How far the arithmetic is off, as a standard deviation of logarithms. Measured on one core, 64 to
# 224 px: 0.2 for MobileNetV2, frozen or not, and 0.4 for the baseline CNN, since batch norm is not
# in the arithmetic. So three probes miss the total by 0.2 (0.18 measured, and one probe 0.28).
# Between six models at 64 and 128 px, on a busy core: 0.5.
_WITHIN_A_MODEL, _BETWEEN_MODELS = 0.3, 0.6
# Guessed: how much the total changes if more trials run side by side than were probed, and if early
# stopping keeps more or fewer trials than by chance.
_NEIGHBOURS, _STOPPING = 0.25, 0.25
# Measured: a trial's time besides training (benchmarks/README.md), and the time before the first
# worker starts and after the last trial, such as Ray's start and the figures.
_SECONDS_BETWEEN_TRIALS = 0.1
_AROUND_SECONDS = 11.0
# Measured in a run folder: the tables, Optuna's storage and Ray Tune's own files.
_BYTES_A_TRIAL, _BYTES_AN_EPOCH = 25_000, 600
_FRONT_SIZE = 10


def estimate_study(
    study: Study,
    *,
    tell: Callable[[str], None] = lambda _: None,
    probe_seconds: float = PROBE_SECONDS,
) -> Estimate:
    """Estimate what `run_search(study)` would take. Writes nothing into the run folder.

    Takes about half a minute, and a little longer with `resources: auto`. tell: called with each
    step. probe_seconds: about how long each of the three probes trains. Raises UserError if the
    study can't work, or if a probe fails.
    """
    tell("checking the study")
    started = time.monotonic()
    data = open_near_data(study.data, copy=study.copy_data)
    check_study(study, data)
    check_seconds = time.monotonic() - started
    resources = available_resources()
    if study.resources != AUTO:
        workers_at_most(study.trial_resources, resources)
    tell("costing recipes")
    candidates = draw_candidates(study, num_classes=len(data.classes))
    study = decide_resources(study, data, candidates=candidates, tell=tell)
    workers = workers_at_most(study.trial_resources, resources)
    by_augment = {(c.recipe.augment, c.recipe.input_size): c.recipe for c in candidates}
    probed = run_probes(
        [candidate.recipe for candidate in choose_probes(candidates)],
        [recipe for recipe in by_augment.values() if recipe.augment != "none"],
        data,
        workers=workers,
        num_gpus=int(resources["GPU"]) if study.trial_resources.gpus else 0,
        threads=study.trial_resources.cpus,
        tell=tell,
        seconds=probe_seconds,
    )
    start_seconds = check_seconds + _AROUND_SECONDS + probed.start_seconds
    return project(study, data, candidates, probed, workers=workers, start_seconds=start_seconds)


def project(
    study: Study,
    data: ImageData,
    candidates: Sequence[Candidate],
    probed: Probed,
    *,
    workers: int,
    start_seconds: float,
) -> Estimate:
    """Turn what the probes took into an estimate for the whole study.

    start_seconds: from the start of the command to the first trial.
    """
    machine = _Machine(study, data, probed)
    epochs = _mean_epochs(study, candidates)
    times = machine.times(candidates, epochs)
    seconds = times.seconds
    doubts = _doubts(candidates, epochs, probed, machine.calibration, seconds, workers)
    courses = _simulate(study, candidates, times, doubts, workers)
    trials = range_of([course.trials for course in courses])
    spread = float(seconds.std() / seconds.mean() / math.sqrt(max(1.0, trials.middle)))
    doubts.append((spread, f"recipes differ, and {trials.middle:.0f} trials are few"))
    memory, gpu_memory = worker_bytes(candidates, probed)
    rows = trials.middle * (_BYTES_A_TRIAL + float(epochs.mean()) * _BYTES_AN_EPOCH)
    kept = min(trials.middle, _FRONT_SIZE) + 2 * workers
    checkpoints = kept * checkpoint_bytes(candidates, probed)
    return Estimate(
        study=study.name,
        workers=workers,
        resources=study.resource_choice["told"] if study.resource_choice else None,
        trials=trials,
        trial_seconds=range_of(seconds),
        hours=range_of([(start_seconds + course.seconds) / 3600 for course in courses]),
        worker_hours=range_of([course.worker_seconds / 3600 for course in courses]),
        disk_gb=(rows + checkpoints + resized_bytes(data, candidates)) / 1e9,
        free_disk_gb=free_bytes(study.folder) / 1e9,
        memory_gb=(workers * memory + probed.shared_bytes + RAY_BYTES) / 1e9,
        machine_memory_gb=machine_bytes() / 1e9,
        gpu_memory_gb=gpu_memory / 1e9,
        probes=machine.probe_times(),
        doubt=max(doubts)[1],
    )


def _mean_epochs(study: Study, candidates: Sequence[Candidate]) -> FloatArray:
    """(candidates,) epochs that each would train on average, with early stopping."""
    lengths = [candidate.recipe.epochs for candidate in candidates]
    mean = {epochs: epochs_left_by_stopping(study, epochs) for epochs in set(lengths)}
    return np.array([mean[epochs] for epochs in lengths])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Times:
    """What the candidates take on this machine."""

    seconds: FloatArray
    """(candidates,) of a trial that finds its frozen features, and until the next one begins."""
    shared: tuple[tuple[tuple[str, float], ...], ...]
    """(candidates,) names and seconds of the work that it shares with others."""


class _Machine:
    """Foretells seconds by arithmetic. The probes say how fast this machine is."""

    def __init__(self, study: Study, data: ImageData, probed: Probed) -> None:
        resources = study.trial_resources
        self._foretell = partial(
            training_effort,
            num_classes=len(data.classes),
            device=resources.device,
            threads=resources.cpus,
        )
        self._train, self._validation = len(data.rows("train")), len(data.rows("validation"))
        self._probed = probed
        efforts = [
            self._foretell(
                _as_probed(probe),
                num_train=probe.train_images,
                num_validation=probe.validation_images,
            )
            for probe in probed.probes
        ]
        self.calibration = calibrate(
            Timed(probe.recipe.model, probe.epoch_seconds, effort.epoch)
            for probe, effort in zip(probed.probes, efforts, strict=True)
        )
        # A probe computes the frozen features of its images, which is not part of building a model.
        build = [
            max(0.0, probe.setup_seconds - self._factor(probe.recipe) * _shared_at_first(effort))
            for probe, effort in zip(probed.probes, efforts, strict=True)
        ]
        save = [probe.save_seconds for probe in probed.probes]
        # A checkpoint is written, and copied into the run folder.
        around = np.median(build) + 2 * np.median(save)
        self._around_seconds = float(around) + _SECONDS_BETWEEN_TRIALS

    def times(self, candidates: Sequence[Candidate], epochs: FloatArray) -> _Times:
        """What candidates take that train (candidates,) epochs."""
        recipes = [candidate.recipe for candidate in candidates]
        factors = np.array([self._factor(recipe) for recipe in recipes])
        efforts = [self._effort(recipe) for recipe in recipes]
        augment = self._probed.augment_seconds
        augmenting = np.array([augment.get((r.augment, r.input_size), 0.0) for r in recipes])
        # Only a trial that goes on long enough becomes int8.
        share = epochs / np.array([recipe.epochs for recipe in recipes])
        return _Times(
            seconds=self._around_seconds
            + factors * share * np.array([one.int8_start + one.int8_end for one in efforts])
            + epochs * factors * np.array([effort.epoch for effort in efforts])
            + epochs * augmenting * self._train,
            shared=tuple(
                tuple(
                    (work.name, factor * work.seconds) for work in effort.shared if work.after < n
                )
                for effort, factor, n in zip(efforts, factors, epochs, strict=True)
            ),
        )

    def probe_times(self) -> tuple[ProbeTime, ...]:
        """The probes' times, scaled to an epoch over all images."""
        found = []
        for probe in self._probed.probes:
            recipe = _as_probed(probe)
            sample = self._foretell(
                recipe, num_train=probe.train_images, num_validation=probe.validation_images
            )
            foretold = self._effort(recipe).epoch
            found.append(
                ProbeTime(
                    recipe=probe.recipe.to_dict(),
                    epoch_seconds=probe.epoch_seconds * foretold / sample.epoch,
                    foretold_seconds=foretold,
                )
            )
        return tuple(found)

    def _effort(self, recipe: Recipe) -> Effort:
        return self._foretell(recipe, num_train=self._train, num_validation=self._validation)

    def _factor(self, recipe: Recipe) -> float:
        return self.calibration.factor(recipe.model)


def _as_probed(probe: Probe) -> Recipe:
    """The recipe that a probe really trained: without augmentation, and in float."""
    return recipe_from({**probe.recipe.to_dict(), **PROBE_OVERRIDES})


def _doubts(
    candidates: Sequence[Candidate],
    epochs: FloatArray,
    probed: Probed,
    calibration: Calibration,
    seconds: FloatArray,
    workers: int,
) -> list[tuple[float, str]]:
    """What may change all trials' times at once: by which part, and a description."""
    count = len(probed.probes)
    within = calibration.spread(_WITHIN_A_MODEL)
    message = (
        f"for a single recipe, the arithmetic is off by about {100 * within:.0f} %, and only"
        f" {count} {'was' if count == 1 else 'were'} probed"
    )
    doubts = [(within / math.sqrt(count), message)]
    models = {candidate.recipe.model for candidate in candidates}
    unlike = np.array([each.recipe.model not in calibration.by_model for each in candidates])
    if unlike.any():
        share = float(seconds[unlike].sum() / seconds.sum())
        message = (
            f"{len(models - calibration.by_model.keys())} of {len(models)} models were not probed,"
            f" and take about {100 * share:.0f} % of the time"
        )
        doubts.append((share * _BETWEEN_MODELS, message))
    if probed.processes < workers:
        message = (
            f"probed with {probed.processes} of {workers} workers at once; more workers slow each"
            " other down"
        )
        doubts.append((_NEIGHBOURS, message))
    share = float(epochs.sum() / sum(candidate.recipe.epochs for candidate in candidates))
    if share < 1:
        message = f"early stopping: {100 * share:.0f} % of the epochs are assumed to remain"
        doubts.append((_STOPPING, message))
    return doubts


def _simulate(
    study: Study,
    candidates: Sequence[Candidate],
    times: _Times,
    doubts: Sequence[tuple[float, str]],
    workers: int,
) -> list[Course]:
    """Simulate searches of candidates in random order, with random errors in their times."""
    budget = study.budget
    rng = np.random.default_rng(study.seed)
    worker_hours = min((budget.hours or math.inf) * workers, budget.worker_hours or math.inf)
    expected = min(budget.trials or math.inf, worker_hours * 3600 / times.seconds.mean())
    num_courses = int(min(_NUM_COURSES, max(10, _MAX_SIMULATED_TRIALS // max(1, expected))))
    off = rng.normal(0, math.hypot(*(size for size, _ in doubts)), num_courses)
    return [
        run_through(
            _in_random_order(candidates, times, factor, rng),
            workers=workers,
            trials=budget.trials,
            hours=budget.hours,
            worker_hours=budget.worker_hours,
        )
        for factor in np.exp(off).tolist()
    ]


def _shared_at_first(effort: Effort) -> float:
    return sum(work.seconds for work in effort.shared if work.after == 0)


def _in_random_order(
    candidates: Sequence[Candidate], times: _Times, factor: float, rng: np.random.Generator
) -> Iterator[float]:
    """Endless seconds of trials: the candidates' times, multiplied by a factor.

    A recipe that was tried before is not trained again. It only comes twice in a small space. In a
    large one, a candidate stands for others.
    """
    keys = [candidate.recipe.key for candidate in candidates]
    seconds = (factor * times.seconds).tolist()
    drawn = Counter(keys)
    tried: set[str] = set()
    paid: set[str] = set()
    first = [index for index, candidate in enumerate(candidates) if candidate.tried_first]
    others = [index for index, candidate in enumerate(candidates) if not candidate.tried_first]
    indices = first
    while True:
        for index in indices:
            key = keys[index]
            if drawn[key] > 1 and key in tried:
                yield _SECONDS_BETWEEN_TRIALS
                continue
            tried.add(key)
            new = {name: took for name, took in times.shared[index] if name not in paid}
            yield seconds[index] + factor * sum(new.values())
            paid.update(new)
        indices = rng.choice(others or first, len(candidates)).tolist()
