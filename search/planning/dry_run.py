"""Estimates what a study will take from short probes: trials, time, disk and memory.

Recipes are drawn at random. A sampler that learns may prefer cheaper or more expensive ones. Up to
three are trained for a moment; the others' times follow from their FLOPs. The estimate ignores that
a plateau may end the search, and the load of other programs.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from search.cluster.capacity import workers_at_most
from search.decisions.stopping_rules import build_stopping_rule
from search.planning.candidates import Candidate, choose_probes, draw_candidates
from search.planning.estimate import Estimate, ProbeTime
from search.planning.forecast import (
    Course,
    FloatArray,
    expected_epochs,
    fit_parts,
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
from search.planning.probe_processes import PROBE_SECONDS, Probed, run_probes
from search.planning.resource_tuning import available_resources, decide_resources
from search.study.preflight import check_study
from search.study.study import AUTO, Study
from trainables.data.copying import open_near_data
from trainables.data.dataset import ImageData
from trainables.system.shared_cache import free_bytes

_NUM_COURSES = 100
_MAX_SIMULATED_TRIALS = 500_000
# Batch size, batch norm and optimiser change an epoch's time by about this part (measured: the
# baseline CNN at 48 and 64 px). Between models, seconds a GFLOP differ by a factor of about 2 (at
# 64 px from 0.016 for ResNet18 to 0.15 for MobileNetV3-Small).
_WITHIN_A_MODEL, _BETWEEN_MODELS = 0.15, 0.6
# Guessed: how much the total changes if more trials run side by side than were probed, and if early
# stopping keeps more or fewer trials than by chance.
_NEIGHBOURS, _STOPPING = 0.25, 0.25
# Measured: a trial's time besides training (benchmarks/README.md), and the time before the first
# worker starts and after the last trial, such as Ray's start and the figures.
_SECONDS_BETWEEN_TRIALS = 0.1
_AROUND_SECONDS = 11.0
# Measured on a CPU: an epoch with fake quantisation took 1.4 to 2.1 times as long as one in float.
_QAT_EPOCH = 2.0
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
    times = _Times(data, candidates, probed)
    epochs = _mean_epochs(study, candidates)
    seconds = times.trial_seconds(epochs)
    doubts = _doubts(candidates, epochs, probed, times, seconds, workers)
    courses = _simulate(study, candidates, seconds, doubts, workers)
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
        probes=times.probes(),
        doubt=max(doubts)[1],
    )


def _mean_epochs(study: Study, candidates: Sequence[Candidate]) -> FloatArray:
    """(candidates,) epochs that each would train on average, with early stopping."""
    rule = build_stopping_rule(study.early_stopping, study.objectives)
    lengths = [candidate.recipe.epochs for candidate in candidates]
    reduction, trials = study.early_stopping.reduction, study.budget.trials
    mean = {
        epochs: expected_epochs(epochs, rule.rungs(epochs), reduction, trials=trials)
        for epochs in set(lengths)
    }
    return np.array([mean[epochs] for epochs in lengths])


class _Times:
    """The time of every candidate, from the probes' times."""

    def __init__(self, data: ImageData, candidates: Sequence[Candidate], probed: Probed) -> None:
        self._candidates = candidates
        self._probed = probed
        self._images = len(data.rows("train")), len(data.rows("validation"))
        by_key = {candidate.recipe.key: candidate for candidate in candidates}
        self._probes = [by_key[probe.recipe.key] for probe in probed.probes]
        amounts = [
            _amounts(candidate, probe.train_images, probe.validation_images)
            for candidate, probe in zip(self._probes, probed.probes, strict=True)
        ]
        seconds = [probe.epoch_seconds for probe in probed.probes]
        self.fit = fit_parts(np.array(amounts), np.array(seconds))
        self.models = {candidate.recipe.model for candidate in self._probes}

    def trial_seconds(self, epochs: FloatArray) -> FloatArray:
        """(candidates,) seconds of a trial with these epochs, and until the next one begins."""
        setup = float(np.median([probe.setup_seconds for probe in self._probed.probes]))
        # A checkpoint is written, and copied into the run folder.
        save = 2 * float(np.median([probe.save_seconds for probe in self._probed.probes]))
        each = np.array([self._epoch_seconds(candidate) for candidate in self._candidates])
        return setup + save + _SECONDS_BETWEEN_TRIALS + epochs * each

    def probes(self) -> tuple[ProbeTime, ...]:
        """The probes' times, scaled to an epoch over all images."""
        fitted = self.fit.at(np.array([_amounts(each, *self._images) for each in self._probes]))
        return tuple(
            ProbeTime(
                recipe=candidate.recipe.to_dict(),
                gflops=candidate.cost.gflops,
                epoch_seconds=float(seconds * ratio),
                fitted_seconds=float(seconds),
            )
            for candidate, seconds, ratio in zip(self._probes, fitted, self.fit.ratios, strict=True)
        )

    def _epoch_seconds(self, candidate: Candidate) -> float:
        recipe = candidate.recipe
        seconds = float(self.fit.at(np.array(_amounts(candidate, *self._images))))
        alike = [each.recipe.model == recipe.model for each in self._probes]
        augment = self._probed.augment_seconds.get((recipe.augment, recipe.input_size), 0.0)
        seconds = seconds * self.fit.ratio_of(alike) + augment * self._images[0]
        fake_quantised = 1 - recipe.num_float_epochs / recipe.epochs
        return seconds * (1 + (_QAT_EPOCH - 1) * fake_quantised)


def _amounts(candidate: Candidate, train_images: int, validation_images: int) -> tuple[float, ...]:
    """What an epoch's time grows with: images, and their GFLOP."""
    return train_images + validation_images, candidate.gflop(train_images, validation_images)


def _doubts(
    candidates: Sequence[Candidate],
    epochs: FloatArray,
    probed: Probed,
    times: _Times,
    seconds: FloatArray,
    workers: int,
) -> list[tuple[float, str]]:
    """What may change all trials' times at once: by which part, and a description."""
    misfit, within = times.fit.misfit, f"{100 * _WITHIN_A_MODEL:.0f}"
    if misfit > _WITHIN_A_MODEL:
        fit = f"probe times disagree by up to {100 * misfit:.0f} %"
    else:
        fit = f"probe times agree; batch size, batch norm and optimiser change times by {within} %"
    doubts = [(max(misfit, _WITHIN_A_MODEL), fit)]
    unlike = np.array([candidate.recipe.model not in times.models for candidate in candidates])
    if unlike.any():
        share = float(seconds[unlike].sum() / seconds.sum())
        models = {candidate.recipe.model for candidate in candidates}
        message = (
            f"{len(models - times.models)} of {len(models)} models were not probed, and take about"
            f" {100 * share:.0f} % of the time"
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
    seconds: FloatArray,
    doubts: Sequence[tuple[float, str]],
    workers: int,
) -> list[Course]:
    """Simulate searches of candidates in random order, with random errors in their times."""
    budget = study.budget
    rng = np.random.default_rng(study.seed)
    keys = [candidate.recipe.key for candidate in candidates]
    worker_hours = min((budget.hours or math.inf) * workers, budget.worker_hours or math.inf)
    expected = min(budget.trials or math.inf, worker_hours * 3600 / seconds.mean())
    num_courses = int(min(_NUM_COURSES, max(10, _MAX_SIMULATED_TRIALS // max(1, expected))))
    off = rng.normal(0, math.hypot(*(size for size, _ in doubts)), num_courses)
    return [
        run_through(
            _in_random_order(candidates, keys, seconds * factor, rng),
            workers=workers,
            trials=budget.trials,
            hours=budget.hours,
            worker_hours=budget.worker_hours,
        )
        for factor in np.exp(off)
    ]


def _in_random_order(
    candidates: Sequence[Candidate],
    keys: Sequence[str],
    seconds: FloatArray,
    rng: np.random.Generator,
) -> Iterator[float]:
    """Endless seconds of trials. A recipe that was tried before is not trained again.

    keys: of the candidates' recipes. A recipe only comes twice in a small space. In a large one, a
    candidate stands for others.
    """
    drawn = Counter(keys)
    tried: set[str] = set()
    first = [index for index, candidate in enumerate(candidates) if candidate.tried_first]
    others = [index for index, candidate in enumerate(candidates) if not candidate.tried_first]
    indices = first
    while True:
        for index in indices:
            again = drawn[keys[index]] > 1 and keys[index] in tried
            tried.add(keys[index])
            yield _SECONDS_BETWEEN_TRIALS if again else float(seconds[index])
        indices = rng.choice(others or first, len(candidates)).tolist()
