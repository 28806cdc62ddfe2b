"""A training loop with nothing but the step: the limit for the project's epochs on a GPU.

Images and labels are on the device. A step gathers a batch, normalises it, and runs the forward
and backward pass and AdamW's fused kernel. It runs eagerly or as one CUDA graph.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]
from torch.nn import functional as F

from spaces.recipe import Recipe
from trainables.inputs.augmentation import normalize
from trainables.models.building import build_model
from trainables.models.families import normalization_of

_WARM_UP_STEPS = 8
_CAPTURE_STEPS = 4
_PROFILED_STEPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a step computes."""

    graph: bool = False
    channels_last: bool = True
    bf16: bool = True
    """Else float32, on a GPU with TF32 where torch allows it."""
    benchmark: bool = False
    """Whether cuDNN tries several kernels and takes the fastest."""
    profile: bool = False
    """Whether the kernels of a step are counted too."""


def measure_loop(
    recipe: Recipe,
    images_NHWC: torch.Tensor,
    labels_N: torch.Tensor,
    *,
    num_classes: int,
    steps: int,
    way: Way,
) -> dict[str, float]:
    """Images a second, milliseconds a step, and how much of a step the CPU was busy with.

    images_NHWC: uint8, of which the recipe's input size is cut out. setup_s: the time of the first
    steps, in which libraries are loaded and kernels chosen.
    """
    torch.backends.cudnn.benchmark = way.benchmark
    try:
        loop = _Loop(recipe, images_NHWC, labels_N, num_classes, way)
        started = time.monotonic()
        step = loop.prepare()
        wait_for(loop.device)
        setup = time.monotonic() - started
        size = (steps, recipe.batch_size)
        orders = torch.randint(0, len(images_NHWC), size, device=loop.device)
        started = time.monotonic()
        for order in orders:
            loop.picked.copy_(order)
            step()
        issued = time.monotonic() - started
        wait_for(loop.device)
        took = time.monotonic() - started
        profiled = _profile(step, loop.device) if way.profile else {}
    finally:
        torch.backends.cudnn.benchmark = False
    return {
        "images_per_s": round(steps * recipe.batch_size / took),
        "ms_a_step": round(1000 * took / steps, 2),
        "cpu_ms_a_step": round(1000 * issued / steps, 2),
        "setup_s": round(setup, 2),
        **profiled,
    }


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Loop:
    def __init__(
        self,
        recipe: Recipe,
        images_NHWC: torch.Tensor,
        labels_N: torch.Tensor,
        num_classes: int,
        way: Way,
    ) -> None:
        self.device = images_NHWC.device
        self._images, self._labels, self._way = images_NHWC, labels_N, way
        self._size = recipe.input_size
        self._normalization = normalization_of(recipe)
        self._model = build_model(recipe, num_classes).to(self.device).train()
        if way.channels_last:
            self._model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), lr=1e-4, fused=True, capturable=way.graph
        )
        self.picked = torch.randint(0, len(labels_N), (recipe.batch_size,), device=self.device)

    def prepare(self) -> Callable[[], object]:
        """Run the first steps; returns a function that runs another one."""
        if not self._way.graph:
            for _ in range(_WARM_UP_STEPS if self.device.type == "cuda" else 1):
                self._step()
            return self._step
        # Captured on another stream after some steps, as torch's notes on CUDA graphs show.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_CAPTURE_STEPS):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay

    def _step(self) -> None:
        images_NCHW = self._images.index_select(0, self.picked).permute(0, 3, 1, 2)
        batch = normalize(images_NCHW[:, :, : self._size, : self._size], self._normalization)
        if not self._way.channels_last:
            batch = batch.contiguous()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._way.bf16):
            logits_NK = self._model(batch)
        loss = F.cross_entropy(logits_NK.float(), self._labels.index_select(0, self.picked))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()


def _profile(step: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Kernels of a step, and the milliseconds that they run. Nothing on a CPU."""
    if device.type != "cuda":
        return {}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(_PROFILED_STEPS):
            step()
        wait_for(device)
    kernels = [event for event in profile.events() or () if event.device_type == DeviceType.CUDA]
    microseconds = sum(event.time_range.elapsed_us() for event in kernels)
    return {
        "kernels_a_step": len(kernels) // _PROFILED_STEPS,
        "gpu_ms_a_step": round(microseconds / _PROFILED_STEPS / 1000, 2),
    }
