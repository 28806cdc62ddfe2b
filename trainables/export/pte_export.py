"""Writes a trained model as a .pte file for ExecuTorch with XNNPACK, and runs one.

Needs the extra `executorch`, which is imported only where it is used.
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
from torch import fx, nn

from spaces.errors import UserError
from trainables.data.image_table import UInt8Array
from trainables.export.trained_model import Logits
from trainables.inference.onnx_model import METADATA_KEY, About
from trainables.inputs.augmentation import normalize, to_batch
from trainables.models.family import Normalization
from trainables.models.model_export import quiet


def require_executorch() -> None:
    """Raise UserError if ExecuTorch is not installed."""
    if find_spec("executorch") is None:
        raise UserError("ExecuTorch is not installed: pip install 'flopwise[executorch]'")


def write_pte(model: nn.Module, about: About, path: Path) -> None:
    """Write a model for one normalised image (1, 3, H, W) at a time.

    model: in evaluation mode, on the CPU. The file's method `flopwise` returns About as JSON.
    Raises UserError if the file can't be written.
    """
    image = torch.zeros(1, 3, about.input_size, about.input_size)
    with quiet(), torch.no_grad():
        # For the parts of int8 models that XNNPACK does not take.
        import executorch.kernels.quantized  # noqa: F401  # pyright: ignore[reportMissingImports]
        from executorch.backends.xnnpack.partition.config import (  # pyright: ignore[reportMissingImports]
            ALL_PARTITIONER_CONFIGS,
        )
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # pyright: ignore[reportMissingImports]
            XnnpackPartitioner,
        )
        from executorch.exir import to_edge_transform_and_lower  # pyright: ignore[reportMissingImports]

        taken = ALL_PARTITIONER_CONFIGS
        if any(isinstance(part, fx.GraphModule) for part in model.modules()):  # int8
            # When XNNPACK loads a file, it refuses to join or multiply different ranges.
            left = ("cat.default", "mul.Tensor")
            taken = [config for config in taken if config.target_name not in left]
        program = to_edge_transform_and_lower(
            torch.export.export(_as_xnnpack_has_it(model), (image,)),
            partitioner=[XnnpackPartitioner(configs=taken)],
            constant_methods={METADATA_KEY: about.to_json()},
        ).to_executorch()
    try:
        path.write_bytes(program.buffer)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from None


def open_pte(path: Path, normalization: Normalization) -> Logits:
    """Load a file into ExecuTorch's runtime.

    normalization: what the model expects. Raises UserError if the file can't be loaded.
    """
    try:
        with _silent(), quiet():
            from executorch.runtime import Runtime  # pyright: ignore[reportMissingImports]

            program = Runtime.get().load_program(path)
            program.load_method("forward")
    except RuntimeError as error:
        raise UserError(
            f"{path}: ExecuTorch can't run it: it is damaged, not a .pte file of flopwise, or has"
            f" layers that XNNPACK refuses: {error}"
        ) from None

    def logits(pixels_NHWC: UInt8Array) -> NDArray[np.float32]:
        batch = to_batch(pixels_NHWC, torch.device("cpu"))
        images_NCHW = normalize(batch, normalization).contiguous()
        forward = program.load_method("forward")  # the program caches it
        assert forward is not None  # open_pte has loaded it
        return np.concatenate(
            [forward.execute((image,))[0].numpy() for image in images_NCHW.split(1)]
        )

    return logits


def _as_xnnpack_has_it(model: nn.Module) -> nn.Module:
    """A copy with contiguous weights. Int8 models are also changed as XNNPACK needs them."""
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    for part in model.modules():
        if isinstance(part, fx.GraphModule):
            _shift_activations(part)
            _float_weights_before_float(part)
            part.recompile()
    return model


def _shift_activations(part: fx.GraphModule) -> None:
    """Make activations int8 instead of uint8, less by 128, so they mean the same numbers."""
    for node in part.graph.nodes:
        if "quantize_per_tensor" in str(node.target):  # and dequantize_per_tensor
            values, scale, zero_point, *limits = node.args
            assert limits == [0, 255, torch.uint8]
            node.args = (values, scale, zero_point - 128, -128, 127, torch.int8)


def _float_weights_before_float(part: fx.GraphModule) -> None:
    """If a layer's output is not quantised, as for logits, store its weights in float.

    XNNPACK leaves such int8 layers to ExecuTorch's own kernels, which give wrong sums (1.5.1).
    """
    from trainables.learning.quantization import end_of_kernel

    for node in list(part.graph.nodes):
        if "dequantize_per_channel" not in str(node.target):
            continue
        (layer,) = node.users
        if any("quantize_per_tensor" in str(user.target) for user in end_of_kernel(layer).users):
            continue
        stored = [getattr(part, str(arg.target)) for arg in node.args[:3]]
        name = f"{node.args[0].target}_float"
        part.register_buffer(name, node.target(*stored, *node.args[3:]))
        with part.graph.inserting_before(node):
            node.replace_all_uses_with(part.graph.get_attr(name))
        part.graph.erase_node(node)


@contextmanager
def _silent() -> Iterator[None]:
    """Hide what the runtime's native code prints about the CPU."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
