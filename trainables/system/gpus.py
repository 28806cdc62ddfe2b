"""What differs on a GPU: precision, memory, copying.

Run on one NVIDIA H100; benchmarks/README.md tells what was measured there, and what was not.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from trainables.system.failures import is_out_of_memory
from trainables.system.machine import cpu_name

# Inputs that are kept on the GPU may take this part of its free memory.
_SHARE_FOR_INPUTS = 0.4
# GPU memory that a process takes besides torch's tensors: the CUDA context and its kernels.
CONTEXT_BYTES = 600 * 2**20


def as_device(name: torch.device | str) -> torch.device:
    """The device of a name. "cuda" becomes "cuda:0", the first GPU that this process may use.

    Tensors name their device with its number, and torch's memory functions need it.
    """
    device = torch.device(name)
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


@functools.cache
def precision(device: torch.device) -> str:
    """The precision in which models compute: bf16 on a GPU that has it, otherwise fp32.

    On the CPUs that we measured (no AVX-512, no AMX), bf16 made MobileNetV2's forward pass 26 times
    slower.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp32"


class UnusableGpuError(RuntimeError):
    """A machine's GPU does not work at all."""


def check_device(device: torch.device) -> None:
    """Raise UnusableGpuError if the device can't hold a number: no driver, or a broken GPU."""
    if device.type != "cuda":
        return
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        raise UnusableGpuError(f"the GPU can't be used: {error}") from None


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's."""
    if device.type != "cuda":
        return cpu_name()
    try:
        return torch.cuda.get_device_name(device)
    except (RuntimeError, AssertionError):  # no driver; trials report that themselves
        return "no GPU found"


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which models compute in the device's precision."""
    if precision(device) == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def exact_float32() -> Iterator[None]:
    """A context in which a GPU computes in true float32, and not in TF32."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products


def room_for_inputs(device: torch.device) -> int:
    """Bytes of inputs that may be kept on the device: 0.4 of its free memory; 0 on the CPU."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device)
    allowed = total * torch.cuda.get_per_process_memory_fraction(device)
    return int(_SHARE_FOR_INPUTS * (min(free, allowed) - torch.cuda.memory_allocated(device)))


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a CPU tensor to a device. A GPU keeps computing meanwhile."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def limit_gpu_memory(share: float, device: torch.device) -> None:
    """Keep this process within its share of a GPU, so that other trials have theirs.

    share: of the whole GPU, including the context; 1 or more: no limit. If this process needs more,
    only it gets torch.OutOfMemoryError.
    """
    if device.type != "cuda":
        return
    total = torch.cuda.mem_get_info(device)[1]
    fraction = 1.0 if share >= 1 else max(0.0, share - CONTEXT_BYTES / total)
    torch.cuda.set_per_process_memory_fraction(fraction, device)
