"""Probes: trains recipes for a moment, in processes of their own, to measure what they take.

As many processes as workers train the same probe at the same time, since neighbours slow each other
down. They train on a sample of the images. Its resized images are thrown away.
"""

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from analysis.columns import describe_recipe
from spaces.errors import UserError
from spaces.recipe import Recipe, recipe_from
from trainables.data.dataset import ImageData
from trainables.data.image_table import PixelTable
from trainables.data.splits import SPLITS
from trainables.inputs.augmentation import build_augmentation, to_batch
from trainables.learning.checkpoint import encode_checkpoint
from trainables.system.failures import describe_failure
from trainables.system.gpus import as_device
from trainables.system.host_memory import give_back_memory, keep_freed_memory
from trainables.training import Training

PROBE_SECONDS = 4.0
_MAX_PROCESSES = 8
_SAMPLE_IMAGES = 256
_FIRST_IMAGES = 8
_WORKER_NICENESS = "0"  # as `ray_session` sets it, unless the environment says otherwise
# These don't change a probe's time, and no probe diverges or runs out of scheduled steps with them.
# Augmentation is timed separately.
PROBE_OVERRIDES = {
    **{"learning_rate": 1e-6, "weight_decay": 0.0, "epochs": 10_000, "augment": "none"},
    **{"qat": False, "float_epochs": None},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a recipe took that was trained for a moment."""

    recipe: Recipe
    train_images: int
    """In one of its epochs, over a sample of the images."""
    validation_images: int
    epoch_seconds: float
    """For such an epoch, without augmentation."""
    setup_seconds: float
    """To build the model and its optimiser in a warm process."""
    save_seconds: float
    checkpoint_bytes: int
    memory_bytes: int
    """What the probe added to its process at the peak."""
    gpu_bytes: int
    """The peak on the GPU; 0 on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The results of all probes."""

    probes: tuple[Probe, ...]
    augment_seconds: dict[tuple[str, int], float]
    """Seconds for one image, by augmentation and input size."""
    processes: int
    """How many trained at the same time."""
    start_seconds: float
    """To import torch and Ray, which each worker does once."""
    idle_bytes: int
    """Memory of a process before its first probe, without shared memory."""
    shared_bytes: int
    """Memory in files that all processes map."""


def run_probes(
    recipes: Sequence[Recipe],
    augmented: Sequence[Recipe],
    data: ImageData,
    *,
    workers: int,
    num_gpus: int,
    threads: int,
    tell: Callable[[str], None],
    seconds: float = PROBE_SECONDS,
) -> Probed:
    """Train each recipe for a moment, in all processes at the same time.

    augmented: recipes whose augmentation is timed separately. num_gpus: to share among the
    processes, 0 for the CPU. tell: called with each step. seconds: about how long all epochs of one
    probe may take. Raises UserError if a probe fails or its process dies.
    """
    tell("starting the probes' processes")
    with TemporaryDirectory(prefix="flopwise-probes-") as folder:
        group = ProbeProcesses(data, Path(folder), num_gpus=num_gpus, threads=threads)
        try:
            ready = group.start(min(workers, _MAX_PROCESSES))
            augment_seconds = {}
            if augmented:
                tell("timing augmentation")
                predictions = group.ask(_time_augmentations, [list(augmented)], "augmentation")
                augment_seconds = {
                    key: _median([a[key] for a in predictions]) for key in predictions[0]
                }
            probes = []
            for number, recipe in enumerate(recipes, start=1):
                described = describe_recipe(recipe.to_dict())
                tell(f"probe {number} of {len(recipes)}: {described}")
                predictions = group.ask(_run_probe, [recipe, seconds], described)
                probes.append(_typical(predictions))
        finally:
            group.end()
    return Probed(
        probes=tuple(probes),
        augment_seconds=augment_seconds,
        processes=len(ready),
        start_seconds=max(answer[0] for answer in ready),
        idle_bytes=max(answer[1] for answer in ready),
        shared_bytes=max(answer[2] for answer in ready),
    )


class ProbeProcesses:
    """Processes that run the same function at the same time."""

    def __init__(self, data: ImageData, folder: Path, *, num_gpus: int, threads: int) -> None:
        self._data, self._folder = data, folder
        self._num_gpus, self._threads = num_gpus, threads
        self._pipes: list[Any] = []  # typed differently on each system
        self._processes: list[SpawnProcess] = []

    def start(self, count: int) -> list[Any]:
        """Start more processes; returns for each: seconds to start, own bytes, shared bytes."""
        # A fork would copy this process's memory and the locks of its threads.
        context = multiprocessing.get_context("spawn")
        started = len(self._pipes)
        for number in range(started, started + count):
            ours, theirs = context.Pipe()
            device = f"cuda:{number % self._num_gpus}" if self._num_gpus else "cpu"
            own = self._folder / str(number)
            own.mkdir()
            process = context.Process(
                target=_serve,
                args=(theirs, self._data, own, device, self._threads, time.time()),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        return self._receive(self._pipes[started:], "starting")

    def ask(
        self,
        function: Callable[..., Any],
        arguments: list[Any],
        what: str,
        *,
        count: int | None = None,
    ) -> list[Any]:
        """Run a function in the first `count` processes, or in all; returns their results.

        what: a description for error messages. Raises UserError if a process fails or dies.
        """
        asked = self._pipes[:count]
        for pipe in asked:
            with suppress(BrokenPipeError):  # receiving gives the better error
                pipe.send((function, arguments))
        return self._receive(asked, what)

    def _receive(self, pipes: list[Any], what: str) -> list[Any]:
        predictions = []
        for pipe in pipes:
            try:
                answer = pipe.recv()
            except (EOFError, ConnectionResetError):
                raise UserError(f"a probe's process died, perhaps out of memory: {what}") from None
            if isinstance(answer, str):
                raise UserError(f"a probe failed: {what}: {answer}")
            predictions.append(answer)
        return predictions

    def end(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()
            process.close()


def _serve(
    pipe: Connection, data: ImageData, folder: Path, device: str, threads: int, begun: float
) -> None:
    """Run the functions that the parent sends, until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    # Trials run this nice, so other programs take more of the processors from them.
    os.nice(int(os.environ.get("RAY_worker_niceness", _WORKER_NICENESS)))  # noqa: SIM112
    import trainables.trial  # noqa: F401  # a worker has Ray in its memory too

    os.environ["FLOPWISE_CACHE"] = str(folder)
    torch.set_num_threads(threads)
    keep_freed_memory()
    index = as_device(device)
    torch.zeros(1, device=index)  # a GPU's one-time cost is not a probe's
    sample: ImageData | None = None
    peak, shared = peak_bytes(), _shared_bytes()
    pipe.send((time.time() - begun, peak - shared, shared))
    with suppress(EOFError):
        while True:
            function, arguments = pipe.recv()
            try:
                sample = _sample(data) if sample is None else sample
                answer = function(sample, folder, index, *arguments)
            except Exception as error:
                answer = describe_failure(error)
            pipe.send(answer)


def _run_probe(
    sample: ImageData, folder: Path, device: torch.device, recipe: Recipe, limit: float
) -> Probe:
    calm = recipe_from({**recipe.to_dict(), **PROBE_OVERRIDES})
    before = forget_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    handful = fewer_images(sample, _FIRST_IMAGES)
    first = Training(calm, handful, device=device)
    seconds_first = first.run_epoch().seconds
    if seconds_first < limit / 8:  # only the first epoch finds kernels
        seconds_first = first.run_epoch().seconds
    room = int(sum(map(len, _rows(handful))) * limit / 3 / seconds_first)
    del first
    few = fewer_images(sample, max(_FIRST_IMAGES, whole_batches(room, recipe.batch_size)))
    started = time.monotonic()
    training = Training(calm, few, device=device)
    setup_seconds = time.monotonic() - started
    seconds = [training.run_epoch().seconds]
    while sum(seconds) + seconds[-1] < limit:
        seconds.append(training.run_epoch().seconds)
    started = time.monotonic()
    file = folder / "probe.pt"
    file.write_bytes(encode_checkpoint(training.state_dict()))
    train_rows, validation_rows = _rows(few)
    return Probe(
        recipe=recipe,
        train_images=len(train_rows),
        validation_images=len(validation_rows),
        epoch_seconds=_median(seconds[1:] or seconds),
        setup_seconds=setup_seconds,
        save_seconds=time.monotonic() - started,
        checkpoint_bytes=file.stat().st_size,
        memory_bytes=max(0, peak_bytes() - before),
        gpu_bytes=torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0,
    )


def _time_augmentations(
    sample: ImageData, _folder: Path, device: torch.device, recipes: list[Recipe]
) -> dict[tuple[str, int], float]:
    seconds = {}
    for recipe in recipes:
        augment = build_augmentation(recipe)
        assert augment is not None
        pixels = np.random.default_rng(0).integers(
            0, 256, (16, recipe.input_size, recipe.input_size, 3), dtype=np.uint8
        )
        images_NCHW = to_batch(pixels, device)
        augment(images_NCHW)
        started = time.monotonic()
        float(augment(images_NCHW).sum())  # which waits for a GPU
        seconds[recipe.augment, recipe.input_size] = (time.monotonic() - started) / len(pixels)
    return seconds


def _sample(data: ImageData) -> ImageData:
    """A sample of the images in memory, with training and validation in proportion."""
    train, validation = _rows(data)
    share = min(1.0, _SAMPLE_IMAGES / len(train))
    picked = [
        rows[np.linspace(0, len(rows) - 1, max(1, round(share * len(rows)))).astype(int)]
        for rows in (train, validation)
    ]
    rows = np.concatenate(picked)
    return replace(
        data,
        labels=data.labels[rows],
        splits=data.splits[rows],
        digest=f"{data.digest}-sample",
        pixels=PixelTable(data.pixels.path, [data.pixels.take(rows)], data.size),
    )


def fewer_images(sample: ImageData, num_train: int) -> ImageData:
    """The sample with this many training images, and validation images in proportion."""
    train, validation = _rows(sample)
    share = min(1.0, num_train / len(train))
    splits = np.full_like(sample.splits, SPLITS.index("test"))
    for rows in (train, validation):
        kept = rows[: max(1, round(share * len(rows)))]
        splits[kept] = sample.splits[kept]
    return replace(sample, splits=splits)


def _rows(data: ImageData) -> tuple[np.ndarray, np.ndarray]:
    return data.rows("train"), data.rows("validation")


def whole_batches(num_images: int, batch_size: int) -> int:
    """The images of as many whole batches as fit; all of them if not even one batch fits."""
    return num_images // batch_size * batch_size or num_images


def _typical(probes: list[Probe]) -> Probe:
    """Combine the probes of several processes: median times, largest memory."""
    return replace(
        probes[0],
        epoch_seconds=_median(
            [probe.epoch_seconds * probes[0].train_images / probe.train_images for probe in probes]
        ),
        setup_seconds=_median([probe.setup_seconds for probe in probes]),
        save_seconds=_median([probe.save_seconds for probe in probes]),
        memory_bytes=max(probe.memory_bytes for probe in probes),
        gpu_bytes=max(probe.gpu_bytes for probe in probes),
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def forget_peak() -> int:
    """Reset the peak of memory, if the system can; returns the peak after that, in bytes.

    Freed memory goes back to the system first. Otherwise the next measurement would reuse it.
    """
    give_back_memory()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return peak_bytes()


def peak_bytes() -> int:
    """The peak of this process's memory, since `forget_peak` if the system can reset it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _shared_bytes() -> int:
    """Memory that maps files, such as torch's libraries; 0 if the system does not report it."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("RssFile:"):
                return int(line.split()[1]) * 1024
    return 0
