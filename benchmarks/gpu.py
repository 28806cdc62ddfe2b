"""The project's code on a GPU: is it right, does it recover, how far from the limit is it.

    python benchmarks/gpu.py --out gpu.json                   # planned for some 330 s on an H100
    python benchmarks/gpu.py --only several --out several.json
    python benchmarks/gpu.py --device cpu --tiny --out x.json # does the script itself run?

It runs without Ray and draws its own images: 151 classes of 224 px for speed, 8 classes of 96 px
for what is trained twice. Sections run in the order in which they matter. Each is on its own: if
one fails, its traceback is in the JSON, the next one runs, and the exit code is 1. A section that
would go beyond --budget is skipped, and says so. The JSON is written after each section.

    equal    one forward pass, augmentation and image tables on the CPU and on the GPU
    agree    the same recipes on the CPU, on the GPU in float32, and as the GPU computes by default
    resume   a checkpoint continues as if nothing had been; the CPU loads and exports it
    qat      epochs, waits, memory that stays after each trial, both devices
    memory   a share of the GPU, recipes that do not fit, and the trial after them
    broken   the errors of a broken and of a full GPU, each in a process of its own
    limits   a bare training loop, eager and as a CUDA graph (comparison/bare_loop.py)
    epochs   the project's own epochs, and how often a step waits for the GPU
    frozen   epochs on cached features; cached and whole training side by side
    several  trials at once on one GPU, each in a process with one thread

On a GPU the first step at each shape of a batch takes up to 15 s (libraries are loaded, kernels
chosen), so sections share batch sizes, and there are no partial batches where they can be avoided.
The first epochs include this time. Not covered: Ray, several GPUs, MIG, MPS, torch.compile.
"""

import argparse
import gc
import importlib.util
import json
import multiprocessing
import os
import queue
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from comparison.bare_loop import Way, measure_loop, wait_for

from spaces.recipe import BASELINE, Recipe, recipe_from
from trainables import training as trainings
from trainables.data.dataset import ImageData, open_data
from trainables.data.splits import SPLITS
from trainables.export.trained_model import load_trained
from trainables.export.verified_export import export_verified
from trainables.inputs import frozen_features
from trainables.inputs.augmentation import build_augmentation, normalize
from trainables.inputs.device_cache import forget_images, open_images
from trainables.inputs.input_sources import StoredInputs, rows_in_order
from trainables.learning import precision_stages
from trainables.learning.checkpoint import CHECKPOINT_FILE, decode_checkpoint, encode_checkpoint
from trainables.learning.precision_stages import Int8Stage
from trainables.models.building import build_model
from trainables.models.families import normalization_of
from trainables.system import gpus
from trainables.system.failures import describe_failure, is_out_of_memory
from trainables.training import Training, use_threads

DRAWING = Path(__file__).with_name("comparison") / "drawing.py"
CPU = torch.device("cpu")
BATCH = 32
# Room for any table of images, so that it is on the device also where that is the CPU.
PLENTY = 10**11
# What `memory` leaves to torch's tensors.
SHARE_BYTES = 1.9e9
TINY_BASELINE = {"model": BASELINE, "batch_norm": True, "width": 0.125}
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all sections work with."""

    device: torch.device
    tiny: bool
    folder: Path
    large: ImageData
    """Images of the full size, for speed."""
    small: ImageData
    used_at_start: int | None
    """Bytes in use on the GPU before this process used it."""

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def recipe(self, **fields: Any) -> Recipe:
        """MobileNetV3-Large at the images' size; with --tiny, a small baseline CNN."""
        model = TINY_BASELINE if self.tiny else {"model": "mobilenet_v3_large"}
        model = {} if "model" in fields else model
        common = {"learning_rate": 1e-3, "optimizer": "adamw", "batch_size": BATCH}
        return recipe_from({**model, "input_size": self.large.size, **common, **fields})

    def small_recipe(self, **fields: Any) -> Recipe:
        """MobileNetV3-Small at the small images' size; with --tiny, the same baseline CNN."""
        model = {} if self.tiny else {"model": "mobilenet_v3_small"}
        return self.recipe(**model, input_size=self.small.size, **fields)

    def pick(self, full: int, tiny: int) -> int:
        """A number of images, steps or epochs."""
        return tiny if self.tiny else full


def main() -> None:
    parser = argparse.ArgumentParser(description="Check and measure the code on a GPU.")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="Small images and models, few steps.")
    parser.add_argument("--budget", type=float, default=320, help="Seconds after the imports.")
    parser.add_argument("--only", default="", help=f"Of {','.join(SECTIONS)}.")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(SECTIONS)
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"--only {','.join(sorted(unknown))}: there are {', '.join(SECTIONS)}")
    device = gpus.as_device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU that torch can use; --device cpu --tiny runs the script without one")
    ends = _STARTED + options.budget
    # torchao warns of its own deprecated names.
    warnings.filterwarnings("ignore", category=FutureWarning)
    use_threads(None)
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        os.environ["FLOPWISE_CACHE"] = str(Path(folder) / "cache")
        used = _bytes_used(device)
        results: Figures = {"environment": _environment(device, used)}
        setup = _draw(Path(folder), device, options.tiny, used)
        for name in SECTIONS:
            if name in names:
                results[name] = _run(name, setup, time_left=ends - time.monotonic())
                options.out.write_text(json.dumps(results, indent=1))
    print(f"{time.monotonic() - _STARTED:.0f} s in all; every figure: {options.out}")
    sys.exit(any("error" in result for result in results.values()))


def say(what: str, value: object) -> None:
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {what}: {value}", flush=True)


def _run(name: str, setup: Setup, *, time_left: float) -> Figures:
    section, needs = SECTIONS[name]
    if time_left < needs and not setup.tiny:
        say(name, "skipped: no time left")
        return {"skipped": "no time left"}
    started = time.monotonic()
    try:
        result = section(setup)
    except Exception as error:
        say(f"{name} FAILED", f"{type(error).__name__}: {str(error)[:300]}")
        result = {"error": traceback.format_exc()[-2500:]}
    forget_images()
    with suppress(RuntimeError):  # a section may have left the GPU broken
        _free_memory(setup.device)
    for key, value in result.items():
        if key != "error":
            say(f"{name}, {key}", value)
    return {**result, "took_s": round(time.monotonic() - started, 1)}


def _environment(device: torch.device, used_at_start: int | None) -> Figures:
    figures: Figures = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "device": gpus.device_name(device),
        "precision": gpus.precision(device),
    }
    if device.type == "cuda":
        gpus.check_device(device)
        wait_for(device)
        figures["total_gb"] = round(torch.cuda.mem_get_info(device)[1] / 1e9, 1)
        figures["cudnn"] = torch.backends.cudnn.version()
        figures["beside_tensors_mib"] = _mebibytes_beside_tensors(device, used_at_start)
    for key, value in figures.items():
        say(key, value)
    return figures


def _draw(folder: Path, device: torch.device, tiny: bool, used_at_start: int | None) -> Setup:
    def draw(name: str, classes: int, size: int, times: int) -> ImageData:
        counts = {"--classes": classes, "--size": size, "--times": times}
        words = [str(word) for option in counts.items() for word in option]
        subprocess.run([sys.executable, DRAWING, folder / name, *words], check=True)
        return open_data(folder / name)

    large = draw("large", 6 if tiny else 151, 64 if tiny else 224, 1)
    small = draw("small", 4 if tiny else 8, 48 if tiny else 96, 1 if tiny else 3)
    say("images drawn", f"{len(large)} and {len(small)}")
    return Setup(
        device=device,
        tiny=tiny,
        folder=folder,
        large=large,
        # Whole batches only: see the module's docstring.
        small=fewer(small, 64 if tiny else 640),
        used_at_start=used_at_start,
    )


def fewer(data: ImageData, num_train: int) -> ImageData:
    """The data with this many images to train on, and a fifth as many to validate."""
    splits = np.full_like(data.splits, SPLITS.index("test"))
    splits[data.rows("train")[:num_train]] = SPLITS.index("train")
    splits[data.rows("validation")[: num_train // 5]] = SPLITS.index("validation")
    return replace(data, splits=splits, digest=f"{data.digest}-{num_train}")


# Correctness


def check_equal(setup: Setup) -> Figures:
    """The largest difference of a logit, as a share of the largest logit; and equal inputs."""
    data, device, recipe = setup.large, setup.device, setup.recipe()
    figures: Figures = {}
    model = build_model(recipe, len(data.classes)).eval()
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = torch.from_numpy(data.at_size(data.size).take(np.arange(BATCH))).permute(0, 3, 1, 2)
    on_device = images.to(device)
    normalization = normalization_of(recipe)
    with torch.inference_mode():
        expected = model(normalize(images, normalization))
        model.to(device)

        def difference() -> float:
            logits = model(normalize(on_device, normalization)).float().cpu()
            return float((logits - expected).abs().max() / expected.abs().max())

        with gpus.exact_float32():
            figures["fp32"] = difference()
        figures["tf32"] = difference()
        with gpus.autocast(device):
            figures["autocast"] = difference()
    for name in ("light", "trivialaugment"):
        augment = build_augmentation(setup.recipe(augment=name))
        assert augment is not None
        with torch.random.fork_rng():
            torch.manual_seed(0)
            here = augment(images)
            torch.manual_seed(0)
            there = augment(on_device)
        figures[f"{name}: share of equal pixels"] = float((here == there.cpu()).float().mean())
    order = torch.tensor([3, 0, len(data.rows("train")) + 1])
    tables = [open_images(data, data.size, device, room_bytes=room) for room in (0, PLENTY)]
    batches = [table.batches(order, 2) for table in tables]
    figures["tables are equal"] = all(map(torch.equal, *batches))
    return figures


def check_agreement(setup: Setup) -> Figures:
    """The same recipes on both devices: the same curves but for rounding."""
    recipes = {
        "baseline": small_baseline(setup, epochs=setup.pick(8, 2)),
        "mobilenet": setup.small_recipe(
            epochs=setup.pick(6, 1), augment="light", scheduler="onecycle"
        ),
        "resnet18 frozen": setup.recipe(
            model="resnet18",
            input_size=setup.small.size,
            unfrozen=2,
            epochs=setup.pick(5, 1),
            optimizer="sgd",
            learning_rate=0.01,
        ),
    }
    figures: Figures = {}
    for name, recipe in recipes.items():
        figures[f"{name}, cpu"] = curve(train(recipe, setup.small, CPU))
        with in_float32():
            figures[f"{name}, device in float32"] = curve(train(recipe, setup.small, setup.device))
        figures[f"{name}, device"] = curve(train(recipe, setup.small, setup.device))
    return figures


def check_resuming(setup: Setup) -> Figures:
    recipes = {
        "float": setup.small_recipe(epochs=2, scheduler="cosine"),
        "qat": setup.small_recipe(epochs=3, float_epochs=1, qat=True),
        "qat with frozen blocks": small_baseline(
            setup, epochs=3, float_epochs=1, qat=True, unfrozen=1
        ),
    }
    figures: Figures = {}
    for name, recipe in recipes.items():
        one = Training(recipe, setup.small, device=setup.device)
        while len(one.history) < recipe.epochs - 1:
            one.run_epoch()
        content = bytes(encode_checkpoint(one.state_dict()))
        other = Training(recipe, setup.small, device=setup.device)
        other.load_state_dict(decode_checkpoint(content))
        last = [training.run_epoch() for training in (one, other)]
        folder = setup.folder / name
        folder.mkdir()
        (folder / CHECKPOINT_FILE).write_bytes(encode_checkpoint(one.state_dict()))
        trained = load_trained(recipe, setup.small, folder)
        _, exported = export_verified(trained, setup.small, folder / "model.onnx", "onnx")
        figures[name] = {
            "checkpoint_mb": round(len(content) / 1e6, 1),
            "losses, without a stop and resumed": [epoch.train_loss for epoch in last],
            "accuracies": [epoch.accuracy for epoch in last],
            "export": exported,
        }
    return figures


def check_qat(setup: Setup) -> Figures:
    """Epochs of a large model, a step, a small model on both devices, memory that stays."""
    figures = _large_qat(setup)
    recipe = small_baseline(setup, epochs=setup.pick(6, 2), qat=True)
    for name, device in (("cpu", CPU), ("device", setup.device)):
        figures[f"baseline, {name}"] = curve(train(recipe, setup.small, device))
    if setup.on_gpu:
        figures["MiB held after each trial"] = [_held_after(recipe, setup) for _ in range(10)]
    return figures


def _large_qat(setup: Setup) -> Figures:
    data = fewer(setup.large, setup.pick(320, 20))
    training = train(setup.recipe(qat=True, epochs=3, float_epochs=1), data, setup.device)
    stage = training._stage
    assert isinstance(stage, Int8Stage)
    forward = stage.training(2)
    batch = next(stage.inputs.batches(torch.arange(16), 16))

    def step() -> None:
        forward(batch).sum().backward()

    step()
    waits = count_waits(step, setup.device)
    num_steps = setup.pick(10, 1)
    steps_s = seconds_of(step, setup.device, num_steps)
    convert_s = seconds_of(stage.finished_model, setup.device)
    return {
        "epochs: float, int8 in torch, int8 in ONNX Runtime": curve(training),
        "waits a step": waits,
        "ms a step of 16": round(1000 * steps_s / num_steps, 2),
        "convert_s": round(convert_s, 2),
    }


def _held_after(recipe: Recipe, setup: Setup) -> float:
    """Mebibytes of tensors that stay on the GPU after an int8 epoch of a recipe."""
    Training(
        recipe.replace(float_epochs=0), fewer(setup.small, 64), device=setup.device
    ).run_epoch()
    forget_images()
    _free_memory(setup.device)
    return round(torch.cuda.memory_allocated(setup.device) / 2**20, 1)


# Recovery


def check_memory(setup: Setup) -> Figures:
    """A process with a share of the GPU: a small trial, two that may not fit, the small one again.

    The second may fail in a training step. The third trains in small batches, but validates 256
    images at once.
    """
    data, device = fewer(setup.large, setup.pick(1280, 20)), setup.device
    num_images = setup.pick(512, 16)
    trials = {
        "small": (setup.small_recipe(epochs=1), setup.small),
        "large batches": (setup.recipe(batch_size=num_images, epochs=1), data),
        "small batches": (setup.recipe(batch_size=16, epochs=2), data),
        "small again": (setup.small_recipe(epochs=1), setup.small),
    }
    figures: Figures = {}
    share = 1.0
    if setup.on_gpu:
        total = torch.cuda.mem_get_info(device)[1]
        share = (SHARE_BYTES + gpus.CONTEXT_BYTES) / total
        figures["MiB held before"] = round(torch.cuda.memory_allocated(device) / 2**20)
    actor = _WarmTrial(share)
    for name, (recipe, images) in trials.items():
        if setup.on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        figures[name] = actor.run(recipe, images, device)
        if setup.on_gpu:
            figures[name]["MiB held after"] = round(torch.cuda.memory_allocated(device) / 2**20)
            figures[name]["peak MiB"] = round(torch.cuda.max_memory_reserved(device) / 2**20)
            figures[name]["room for inputs, MiB"] = round(gpus.room_for_inputs(device) / 2**20)
    if setup.on_gpu:
        gpus.limit_gpu_memory(1, device)
        figures["MiB beside tensors"] = _mebibytes_beside_tensors(device, setup.used_at_start)
    return figures


class _WarmTrial:
    """A process's trials, one after the other, as a Ray actor runs them."""

    def __init__(self, share: float) -> None:
        _without_ray()
        from trainables import trial as module

        self._share = share
        self._results = module
        self._trial = module.Trial.__new__(module.Trial)
        self._fresh = True

    def run(self, recipe: Recipe, data: ImageData, device: torch.device) -> Figures:
        """Train a recipe to its end or its failure, and forget it."""
        config = {
            "recipe": recipe.to_dict(),
            "data": str(data.path),
            "copy_data": False,
            "device": str(device),
            "threads": torch.get_num_threads(),
            "gpu_share": self._share,
            "deepest_unfrozen": None,
            "recalls": (),
            "resume_from": [],
            "pause_after": None,
            "avoid": [],
        }
        if self._fresh:
            # Otherwise the process would be killed with the shell that started it.
            with patch.object(self._results, "_end_with_the_parent"):
                self._trial.setup(config)
            self._fresh = False
        else:
            self._trial.reset_config(config)
        # Fewer images than the path has.
        self._trial._data, self._trial._data_from = data, config["data"]
        epochs, failure = 0, None
        while epochs < recipe.epochs and failure is None:
            result = self._trial.step()
            epochs += len(result[self._results.EPOCHS])
            failure = result[self._results.FAILURE]
        self._trial._training = None
        gc.collect()
        return {"epochs": epochs, "failure": failure and failure[:200]}


def check_broken(setup: Setup) -> Figures:
    """What errors look like after a failed assertion on the GPU, and on a full GPU."""
    if not setup.on_gpu:
        return {"skipped": "no GPU"}
    figures: Figures = {"assertion": _in_new_process(break_gpu)}
    _free_memory(setup.device)
    free = torch.cuda.mem_get_info(setup.device)[0]
    filled = torch.empty(free - 64 * 2**20, dtype=torch.uint8, device=setup.device)
    figures["full"] = _in_new_process(use_full_gpu)
    del filled
    return figures


def break_gpu() -> list[str]:
    device = gpus.as_device("cuda")
    gpus.check_device(device)
    images, kernels = torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3)

    def index_beyond_the_end() -> None:
        torch.zeros(4, device=device)[torch.tensor([10], device=device)].sum().item()

    def convolve() -> None:
        torch.nn.functional.conv2d(images.to(device), kernels.to(device)).sum().item()

    return [
        _error_of("the assertion", index_beyond_the_end),
        _error_of("a convolution after it", convolve),
        _error_of("check_device after it", lambda: gpus.check_device(device)),
    ]


def use_full_gpu() -> list[str]:
    device = gpus.as_device("cuda")
    return [_error_of("check_device", lambda: gpus.check_device(device))]


def _error_of(what: str, call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:
        kind = f"{type(error).__module__}.{type(error).__name__}"
        memory = "out of memory" if is_out_of_memory(error) else "not out of memory"
        return f"{what}: {kind}, taken for {memory}: {describe_failure(error)[:150]}"
    return f"{what}: no error"


def _in_new_process(function: Callable[[], list[str]]) -> list[str]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function).result(timeout=90)


# Speed


def measure_limits(setup: Setup) -> Figures:
    data = fewer(setup.large, setup.pick(2560, 20))
    inputs = open_images(data, data.size, setup.device, room_bytes=PLENTY)
    assert isinstance(inputs, StoredInputs)
    labels = torch.from_numpy(data.labels[rows_in_order(data)]).to(setup.device)
    eager, graph = Way(profile=True), Way(graph=True)
    cases = {
        "batch 32": (setup.recipe(), eager),
        "batch 32, graph": (setup.recipe(), graph),
        "batch 128": (setup.recipe(batch_size=128), eager),
        "batch 128, graph": (setup.recipe(batch_size=128), graph),
        "96 px, batch 32": (setup.recipe(input_size=min(96, data.size)), Way()),
        "96 px, batch 32, graph": (setup.recipe(input_size=min(96, data.size)), graph),
        "batch 32, graph, cuDNN's benchmark": (setup.recipe(), replace(graph, benchmark=True)),
        "batch 32, graph, channels first": (setup.recipe(), replace(graph, channels_last=False)),
        "batch 32, graph, TF32": (setup.recipe(), replace(graph, bf16=False)),
    }
    if not setup.on_gpu:
        cases = {"batch 8": (setup.recipe(batch_size=8), Way())}
    return {
        name: measure_loop(
            recipe,
            inputs._stored,
            labels,
            num_classes=len(data.classes),
            steps=setup.pick(40, 2),
            way=way,
        )
        for name, (recipe, way) in cases.items()
    }


def measure_epochs(setup: Setup) -> Figures:
    figures: Figures = {}
    many, few = fewer(setup.large, setup.pick(2560, 20)), fewer(setup.large, setup.pick(1280, 20))
    for batch_size in (32, 128):
        recipe = setup.recipe(batch_size=batch_size, epochs=9)
        figures[f"batch {batch_size}"] = _epochs(recipe, many, setup)
    for augment in ("none", "light", "trivialaugment"):
        recipe = setup.recipe(augment=augment, epochs=9)
        told = _epochs(recipe, few, setup)
        training = Training(recipe, few, device=setup.device)
        training.run_epoch()
        waits = count_waits(training.run_epoch, setup.device)
        steps = -(-len(few.rows("train")) // BATCH)
        told["waits a step"] = None if waits is None else round(waits / steps, 2)
        figures[f"augment {augment}"] = told
    return figures


def _epochs(recipe: Recipe, data: ImageData, setup: Setup) -> Figures:
    """Seconds of epochs, and images a second of the quickest one without its validation."""
    training = Training(recipe, data, device=setup.device)
    seconds = [training.run_epoch().seconds for _ in range(setup.pick(3, 1))]
    stage = training._stage
    assert stage is not None
    validation = seconds_of(lambda: training._validate(stage), setup.device)
    return {
        "seconds": [round(each, 2) for each in seconds],
        "validation_s": round(validation, 3),
        "images_per_s": round(len(data.rows("train")) / max(1e-9, min(seconds) - validation)),
    }


def measure_frozen(setup: Setup) -> Figures:
    """Epochs on cached features, whose last one is on images in float32; then both ways."""
    figures: Figures = {}
    many, few = fewer(setup.large, setup.pick(3840, 20)), fewer(setup.large, setup.pick(640, 20))
    for name, unfrozen in (("3 blocks", 3), ("3 blocks again", 3), ("head alone", 0)):
        training = train(setup.recipe(unfrozen=unfrozen, epochs=4), many, setup.device)
        assert training._stage is not None
        inputs = training._stage.inputs
        assert isinstance(inputs, StoredInputs)
        stored = inputs._stored
        features = f"{tuple(stored.shape)} {stored.dtype} on {stored.device}"
        figures[name] = {**curve(training), "features": features}
    recipe = setup.recipe(unfrozen=3, epochs=2)
    figures["cached"] = curve(train(recipe, few, setup.device))
    with patch.dict(os.environ, FLOPWISE_FEATURES_GB="0"):
        figures["whole"] = curve(train(recipe, few, setup.device))
    return figures


def measure_several(setup: Setup) -> Figures:
    """Images a second of four trials together. `epochs` has those of one alone."""
    count = setup.pick(4, 1)
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(count), context.Queue()
    seconds = 0.1 if setup.tiny else 5.0
    arguments = (setup, barrier, answers, seconds)
    processes = [
        context.Process(target=train_beside_others, args=arguments, daemon=True)
        for _ in range(count)
    ]
    for process in processes:
        process.start()
    try:
        rates = [answers.get(timeout=90) for _ in processes]
    except queue.Empty:
        raise TimeoutError("a trial did not answer within 90 s") from None
    finally:
        for process in processes:
            process.join(20)
            process.terminate()
    if failed := [rate for rate in rates if isinstance(rate, str)]:
        raise RuntimeError("; ".join(failed))
    return {f"{count} at once": {"images_per_s": round(sum(rates))}}


def train_beside_others(
    setup: Setup, barrier: Barrier, answers: "Queue[float | str]", seconds: float
) -> None:
    """Train for some seconds once all others are ready; answers images a second, or an error."""
    try:
        data = fewer(setup.large, setup.pick(1280, 20))
        use_threads(1)
        training = Training(setup.recipe(epochs=10_000), data, device=setup.device)
        training.run_epoch()
        barrier.wait(60)
        started, epochs = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            training.run_epoch()
            epochs += 1
        answers.put(epochs * len(data.rows("train")) / (time.monotonic() - started))
    except Exception as error:
        answers.put(describe_failure(error))


# Parts of the sections


def small_baseline(setup: Setup, **fields: Any) -> Recipe:
    model = {**TINY_BASELINE, "width": 0.25}
    return setup.recipe(**model, input_size=setup.small.size, **fields)


def train(recipe: Recipe, data: ImageData, device: torch.device) -> Training:
    return trainings.train(recipe, data, lambda _: None, device=device)


def curve(training: Training) -> Figures:
    return {
        "accuracy": [round(epoch.accuracy, 4) for epoch in training.history],
        "train_loss": [round(epoch.train_loss, 4) for epoch in training.history],
        "seconds": [round(epoch.seconds, 3) for epoch in training.history],
    }


@contextmanager
def in_float32() -> Iterator[None]:
    """The project's own code on a GPU, but in float32 and without TF32."""
    with ExitStack() as stack:
        for module in (gpus, precision_stages, frozen_features):
            stack.enter_context(patch.object(module, "precision", lambda _: "fp32"))
        stack.enter_context(gpus.exact_float32())
        yield


def count_waits(call: Callable[[], object], device: torch.device) -> int | None:
    """How often a call waits for the GPU, as far as torch notices; None on a CPU."""
    if device.type != "cuda":
        call()
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        return sum("synchroniz" in str(each.message) for each in caught)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def seconds_of(call: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Seconds of some calls, with all that they have the GPU do."""
    wait_for(device)
    started = time.monotonic()
    for _ in range(times):
        call()
    wait_for(device)
    return time.monotonic() - started


def _free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _bytes_used(device: torch.device) -> int | None:
    """Bytes in use on the GPU by all processes. None on a CPU, or without nvidia-ml-py."""
    with suppress(ModuleNotFoundError, RuntimeError):
        if device.type == "cuda":
            return torch.cuda.device_memory_used(device)  # asks the driver, makes no context
    return None


def _mebibytes_beside_tensors(device: torch.device, used_at_start: int | None) -> int | None:
    """What this process takes of the GPU besides torch's tensors, if no other process uses it."""
    used = _bytes_used(device)
    if used is None or used_at_start is None:
        return None
    return round((used - used_at_start - torch.cuda.memory_reserved(device)) / 2**20)


def _without_ray() -> None:
    """Where Ray is not installed, let `trainables.trial` be imported without it."""
    if importlib.util.find_spec("ray") is not None:
        return
    names = ("ray", "ray.tune", "ray.tune.result", "ray.exceptions", "ray.experimental")
    modules = [ModuleType(name) for name in names]
    ray, tune, result, exceptions, experimental = modules
    vars(exceptions).update(RayError=RuntimeError)
    vars(experimental).update(internal_kv=None)  # not called: Ray is not initialised
    vars(result).update(DONE="done", SHOULD_CHECKPOINT="should_checkpoint")
    vars(tune).update(Trainable=object, PlacementGroupFactory=object, result=result)
    vars(ray).update(is_initialized=lambda: False, tune=tune)
    sys.modules.update({module.__name__: module for module in modules})


_STARTED = time.monotonic()
# In the order in which they matter, with the seconds that each is reckoned to take on an H100.
SECTIONS: dict[str, tuple[Callable[[Setup], Figures], float]] = {
    "equal": (check_equal, 10),
    "agree": (check_agreement, 40),
    "resume": (check_resuming, 40),
    "qat": (check_qat, 60),
    "memory": (check_memory, 30),
    "broken": (check_broken, 15),
    "limits": (measure_limits, 40),
    "epochs": (measure_epochs, 30),
    "frozen": (measure_frozen, 20),
    "several": (measure_several, 35),
}


if __name__ == "__main__":
    main()
