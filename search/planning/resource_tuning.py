"""Decides `resources: auto`: trains each option's trials side by side for a moment.

All processes train the same recipe: a medium one, then an expensive one. Early stopping,
augmentation and the time between trials are left out. On GPUs, the trials of one GPU are probed,
with their part of the cores. That has not been run on a GPU yet.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch

from analysis.columns import describe_recipe
from search.planning.candidates import Candidate, choose_probes, draw_candidates
from search.planning.memory_estimate import RAY_BYTES, largest_bytes, machine_bytes
from search.planning.probe_processes import (
    PROBE_OVERRIDES,
    ProbeProcesses,
    fewer_images,
    forget_peak,
    peak_bytes,
    whole_batches,
)
from search.planning.resource_options import (
    Decision,
    MachineMemory,
    Needs,
    Rated,
    ResourceOption,
    choose_option,
    fits,
    list_options,
)
from search.study.study import AUTO, Study
from spaces.columns import LATENCY
from spaces.errors import UserError
from spaces.recipe import Recipe, recipe_from
from trainables.data.dataset import ImageData
from trainables.system.cores import num_cores
from trainables.system.gpus import CONTEXT_BYTES
from trainables.training import Training

# For all options and recipes together. Building models and first steps come on top.
_MEASURING_SECONDS = 8.0
_COSTING_SECONDS = 3.0
_MAX_RECIPES = 2
_FIRST_IMAGES = 8
# Surely more than an idle process takes. Start as many processes together as fit by this.
_IDLE_BYTES = 10**9
_MOST_IMAGES = 256  # as many as a probe's process holds


def decide_resources(
    study: Study,
    data: ImageData,
    *,
    candidates: Sequence[Candidate] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Study:
    """The study with its resources decided; unchanged if they are not auto.

    Meant to take 10 to 20 seconds on an idle machine with few cores. No step is cut short: on 2
    cores with other programs at work it took 32 to 68. candidates: from `draw_candidates`, if they
    are drawn already. tell: called with each step. Raises UserError if a probe fails.
    """
    if study.resources != AUTO:
        return study
    tell("resources: auto: costing recipes")
    if candidates is None:
        candidates = draw_candidates(study, num_classes=len(data.classes), seconds=_COSTING_SECONDS)
    available = available_resources()
    # On a cluster, this machine stands for all nodes.
    measures = LATENCY in study.objectives.cost_columns  # the driver then needs a core
    cores = max(1, min(num_cores(), int(available["CPU"])) - measures)
    gpus = min(torch.cuda.device_count(), int(available["GPU"]))
    options = list_options(cores, gpus)
    recipes = [each.recipe for each in choose_probes(candidates)][-_MAX_RECIPES:]
    if len(options) == 1:
        decision = Decision(chosen=options[0], rated=())
    else:
        with TemporaryDirectory(prefix="flopwise-resources-") as folder:
            processes = ProbeProcesses(
                data, Path(folder), num_gpus=min(gpus, 1), threads=options[0].resources.cpus
            )
            try:
                probe = _Probe(processes, recipes, candidates, options, tell)
                rated, left_out = probe.measure()
            except UserError as error:
                raise UserError(
                    f"resources: auto: {error}; resources such as {{cpus: 1}} need no probe"
                ) from None
            finally:
                processes.end()
        decision = Decision(
            chosen=choose_option(rated), rated=tuple(rated), left_out=tuple(left_out)
        )
    option = {**decision.to_dict(), "recipes": [recipe.to_dict() for recipe in recipes]}
    return replace(study, resources=decision.chosen.resources, resource_choice=option)


def available_resources() -> dict[str, float]:
    """CPUs and GPUs for trials: of the cluster if connected to one, else of this machine."""
    if ray.is_initialized():
        return {"GPU": 0.0, **ray.cluster_resources()}
    return {"CPU": float(num_cores()), "GPU": float(torch.cuda.device_count())}


class _Probe:
    """Measures options, fewest trials first. The first one shows how many fit into memory."""

    def __init__(
        self,
        processes: ProbeProcesses,
        recipes: Sequence[Recipe],
        candidates: Sequence[Candidate],
        options: Sequence[ResourceOption],
        tell: Callable[[str], None],
    ) -> None:
        self._processes = processes
        self._recipes = recipes
        self._candidates = candidates
        self._options = options
        self._tell = tell
        self._seconds = _MEASURING_SECONDS / len(options) / len(recipes)
        # Images of an epoch, by recipe. They are the same in all options.
        self._images: list[int] = []

    def measure(self) -> tuple[list[Rated], list[ResourceOption]]:
        """Rate the options that fit into memory; returns them, and the options that don't fit."""
        first, *others = self._options
        memory = MachineMemory(memory_bytes=machine_bytes(), gpu_bytes=_gpu_bytes(first))
        started = min(
            max(option.neighbours for option in others),
            max(1, memory.memory_bytes // _IDLE_BYTES),
        )
        self._tell(f"resources: auto: starting {started} processes")
        _, idle, shared = max(self._processes.start(started), key=lambda message: message[1])
        rated, took = self._rate(first)
        images = list(zip(self._recipes, self._images, strict=True))
        own = [max(each.memory_bytes for each in predictions) for predictions in took]
        on_gpu = [max(each.gpu_bytes for each in predictions) for predictions in took]
        gpu_bytes = largest_bytes(self._candidates, images, on_gpu)
        needs = Needs(
            trial_bytes=int(idle + largest_bytes(self._candidates, images, own)),
            shared_bytes=int(shared + RAY_BYTES),
            gpu_bytes=int(gpu_bytes + CONTEXT_BYTES) if gpu_bytes else 0,
        )
        fitting = [option for option in others if fits(option, needs, memory)]
        results = [rated]
        for option in fitting:
            if option.neighbours > started:
                self._processes.start(option.neighbours - started)
                started = option.neighbours
            results.append(self._rate(option)[0])
        return results, [option for option in others if option not in fitting]

    def _rate(self, option: ResourceOption) -> tuple[Rated, list[list["_Took"]]]:
        """Train each recipe in all trials of an option at once."""
        threads, count = option.resources.cpus, option.neighbours
        rates, took = [], []
        for index, recipe in enumerate(self._recipes):
            described = describe_recipe(recipe.to_dict())
            self._tell(f"resources: auto: {option}: {described}")
            if len(self._images) == index:
                asked: list[Any] = [recipe, threads, self._seconds]
                self._images += self._processes.ask(_images_an_epoch, asked, described, count=1)
            asked = [recipe, threads, self._images[index]]
            self._processes.ask(_prepare, asked, described, count=count)
            predictions = self._processes.ask(_train, [self._seconds], described, count=count)
            rates.append(sum(each.images / each.seconds for each in predictions))
            took.append(predictions)
        return Rated(option=option, images_per_second=tuple(rates)), took


@dataclass(frozen=True, slots=True, kw_only=True)
class _Took:
    """What one process trained, and its memory on top of an idle process's."""

    images: int
    seconds: float
    memory_bytes: int
    gpu_bytes: int


def _gpu_bytes(option: ResourceOption) -> int:
    """Memory of a GPU; 0 if trials have none."""
    return torch.cuda.mem_get_info(0)[1] if option.resources.gpus else 0


# What follows runs in the probe's processes.
_prepared: dict[str, tuple[Training, int, int]] = {}
"""A training after its first epoch, its images, and the process's memory before it."""


def _images_an_epoch(
    sample: ImageData,
    _folder: Path,
    device: torch.device,
    recipe: Recipe,
    threads: int,
    seconds: float,
) -> int:
    """The images for which an epoch takes at most half of the seconds, even on one core."""
    torch.set_num_threads(threads)
    few = fewer_images(sample, _FIRST_IMAGES)
    training = Training(_calm(recipe), few, device=device)
    # The first epoch also finds kernels, and computes the output of frozen blocks.
    first = training.run_epoch().seconds
    second = training.run_epoch().seconds if first < seconds else first
    memory = _FIRST_IMAGES * seconds / max(first, 2 * threads * second)
    return max(_FIRST_IMAGES, whole_batches(min(_MOST_IMAGES, int(memory)), recipe.batch_size))


def _prepare(
    sample: ImageData,
    _folder: Path,
    device: torch.device,
    recipe: Recipe,
    threads: int,
    images: int,
) -> None:
    """Train one epoch, so that all processes are warm when `_train` begins."""
    torch.set_num_threads(threads)
    _prepared.clear()
    before = forget_peak()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    few = fewer_images(sample, images)
    training = Training(_calm(recipe), few, device=device)
    training.run_epoch()
    _prepared["now"] = training, len(few.rows("train")), before


def _train(_sample: ImageData, _folder: Path, device: torch.device, seconds: float) -> _Took:
    """Train epochs until the seconds are over."""
    training, images, before = _prepared["now"]
    started = time.monotonic()
    epochs = 0
    while epochs == 0 or time.monotonic() - started < seconds:
        training.run_epoch()
        epochs += 1
    return _Took(
        images=epochs * images,
        seconds=time.monotonic() - started,
        memory_bytes=max(0, peak_bytes() - before),
        gpu_bytes=torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0,
    )


def _calm(recipe: Recipe) -> Recipe:
    return recipe_from({**recipe.to_dict(), **PROBE_OVERRIDES})
