"""Writes a float model as a .pte file and runs one: ExecuTorch, its layers by XNNPACK.

Needs the extra `executorch`, which is imported where it is used.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spaces.errors import UserError
from trainables.augmentation import normalize, to_batch
from trainables.exported import METADATA_KEY, About
from trainables.model_files import quiet
from trainables.pixels import UInt8Array
from trainables.trained import Logits


def require_executorch() -> None:
    """Raise UserError where ExecuTorch is not installed."""
    if find_spec("executorch") is None:
        raise UserError("ExecuTorch is not installed: pip install 'flopwise[executorch]'")


def write_pte(model: nn.Module, about: About, path: Path) -> None:
    """Write a float model for one normalised image (1, 3, H, W) at a time.

    model: in evaluation mode, on the CPU. What About holds is what the file's method `flopwise`
    returns, as JSON. Raises UserError where the file can't be written.
    """
    # XNNPACK takes no weights with channels last.
    contiguous = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    image = torch.zeros(1, 3, about.input_size, about.input_size)
    with quiet(), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # pyright: ignore[reportMissingImports]
            XnnpackPartitioner,
        )
        from executorch.exir import to_edge_transform_and_lower  # pyright: ignore[reportMissingImports]

        program = to_edge_transform_and_lower(
            torch.export.export(contiguous, (image,)),
            partitioner=[XnnpackPartitioner()],
            constant_methods={METADATA_KEY: about.to_json()},
        ).to_executorch()
    try:
        path.write_bytes(program.buffer)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from None


def open_pte(path: Path) -> Logits:
    """Have ExecuTorch's runtime load a file. Raises UserError where it is damaged."""
    try:
        with _silent(), quiet():
            from executorch.runtime import Runtime  # pyright: ignore[reportMissingImports]

            program = Runtime.get().load_program(path)
            program.load_method("forward")
    except RuntimeError as error:
        raise UserError(f"{path}: damaged, or no .pte file of flopwise: {error}") from None

    def logits(pixels_NHWC: UInt8Array) -> NDArray[np.float32]:
        images_NCHW = normalize(to_batch(pixels_NHWC, torch.device("cpu"))).contiguous()
        forward = program.load_method("forward")  # which the program holds
        return np.concatenate(
            [forward.execute((image,))[0].numpy() for image in images_NCHW.split(1)]
        )

    return logits


@contextmanager
def _silent() -> Iterator[None]:
    """Keep from the terminal what the runtime, not written in Python, tells of the CPU."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
