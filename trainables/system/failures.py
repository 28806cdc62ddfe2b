"""Describes an error that ended a training."""

import traceback
from pathlib import Path

import torch

from spaces.errors import UserError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the CPU or a GPU."""
    # torch's CPU allocator raises a bare RuntimeError.
    message = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return message or isinstance(error, torch.OutOfMemoryError | MemoryError)


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
