"""Writes a trained model to a file that runs elsewhere: ONNX, or torch.export's .pt2."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from torch import nn

from spaces.errors import UserError
from trainables.inference.onnx_model import METADATA_KEY, About
from trainables.models.onnx_opset import lower_opset

_OPSET = 18  # the exporter's own; it does not lower all models itself
_VERSIONS = ("torch", "torchvision", "onnx", "onnxruntime")


def export_versions(*others: str) -> dict[str, str]:
    """The packages that an exported file depends on, with their versions."""
    return {name: version(name) for name in (*_VERSIONS, *others)}


def write_onnx(model: nn.Module, about: About, path: Path) -> None:
    """Write a model to an ONNX file that ONNX Runtime runs; see make_onnx.

    Raises UserError if the file can't be written.
    """
    write_made_onnx(make_onnx(model, about.input_size), about, path)


def write_made_onnx(made: bytes, about: About, path: Path) -> None:
    """Write the result of make_onnx, with About as metadata. Raises UserError if it can't.

    If the model ends in log-softmax, its output is named `log_probabilities`, else `logits`.
    """
    proto = onnx.load_model_from_string(made)
    graph = proto.graph
    if graph.node[-1].op_type == "LogSoftmax":
        graph.node[-1].output[0] = graph.output[0].name = "log_probabilities"
    onnx.helper.set_model_props(proto, {METADATA_KEY: about.to_json()})
    try:
        path.write_bytes(proto.SerializeToString())
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from None


def make_onnx(model: nn.Module, input_size: int) -> bytes:
    """The content of an ONNX file, which takes any number of images at a time.

    model: in evaluation mode, on the CPU, from normalised (N, 3, H, W) to logits (N, classes).
    The file has the oldest opset that the model allows, 17 or 18, and the IR version of that opset,
    so that older runtimes load it.
    """
    with quiet():
        program = torch.onnx.export(
            model,
            (_images(input_size),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["image"],
            output_names=["logits"],
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    proto.producer_name = "flopwise"
    lower_opset(proto)
    proto.ir_version = onnx.helper.find_min_ir_version_for(list(proto.opset_import))
    graph = proto.graph
    for noted in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        # The exporter's notes are half of a small int8 file, and older IR versions have none.
        del noted.metadata_props[:]
    return proto.SerializeToString()


def write_pt2(model: nn.Module, about: About, path: Path) -> None:
    """Write a model to torch.export's format: `torch.export.load(path).module()` runs it.

    About is in its extra file `flopwise.json`. Raises UserError as write_onnx does.
    """
    dynamic = ({0: torch.export.Dim("batch")},)
    with quiet(), torch.no_grad():
        program = torch.export.export(model, (_images(about.input_size),), dynamic_shapes=dynamic)
    try:
        with quiet():
            torch.export.save(program, path, extra_files={f"{METADATA_KEY}.json": about.to_json()})
    except (OSError, RuntimeError) as error:
        raise UserError(f"can't write {path}: {error}") from None


def read_pt2(path: Path) -> nn.Module:
    """Read a file of write_pt2. Raises UserError if it is damaged."""
    extra = {f"{METADATA_KEY}.json": ""}
    try:
        with quiet():
            program = torch.export.load(path, extra_files=extra)
        json.loads(extra[f"{METADATA_KEY}.json"])
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: damaged, or not a .pt2 file of flopwise: {error}") from None
    return program.module()


def _images(size: int) -> torch.Tensor:
    """Two example images: torch.export would treat a batch of 1 as a fixed size."""
    return torch.zeros(2, 3, size, size)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the exporters' own messages from the user."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.utils._pytree")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
