"""Describes an error that ended a training."""

import traceback
from pathlib import Path

import torch

from spaces.errors import UserError

# What RuntimeErrors say when memory ran out: torch's CPU allocator, CUDA itself (such as for a
# process's first allocation on a full GPU), cuBLAS, and cuDNN, twice.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the CPU or a GPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(say.lower() in text for say in _OUT_OF_MEMORY)


def describe_failure(error: BaseException) -> str:
    """One line: what went wrong, and where, unless it is the user's error."""
    text = " ".join(str(error).split()) or "no message"
    if is_out_of_memory(error):
        return f"out of memory: {text}"
    if isinstance(error, UserError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"
