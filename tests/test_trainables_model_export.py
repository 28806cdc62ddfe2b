"""ONNX files that older runtimes load: opset 17 and IR version 8, with the same outputs."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spaces.recipe import Recipe
from trainables.inference.onnx_model import About, open_session, run_session
from trainables.models.building import build_model
from trainables.models.model_export import make_onnx, write_onnx

SIZE = 32


class Reductions(nn.Module):
    """Each operator that opset 18 changed and that opset 17 can express, too."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        padded = F.pad(images_NCHW, (1, 2, 0, 3), value=2.0)
        left, right = padded[..., :34].chunk(2, dim=3)
        both = left.mean(dim=(2, 3)) + right.amax(dim=(2, 3)) + right.amin(dim=(2, 3))
        norm = torch.linalg.vector_norm(padded, dim=(2, 3)) + left.sum(dim=(2, 3))
        changed = padded.clone()
        changed[:, :, :2] = 3.0
        return torch.cat([both, norm, changed.mean(dim=(2, 3), keepdim=True).flatten(1)], dim=1)


class Antialiased(nn.Module):
    """Opset 17 has no antialiased resizing."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        small = F.interpolate(images_NCHW, size=(8, 8), mode="bilinear", antialias=True)
        return small.mean(dim=(2, 3))


class Uneven(nn.Module):
    """Opset 17 makes parts equal if it is not told their lengths."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        parts = images_NCHW.chunk(2, dim=1)
        return torch.cat([part.mean(dim=(2, 3)) for part in parts[::-1]], dim=1)


def exported(model: nn.Module, size: int = SIZE) -> tuple[int, int]:
    """Opset and IR version of a checked file, which has the outputs of the model."""
    made = make_onnx(model.eval(), size)
    proto = onnx.load_model_from_string(made)
    onnx.checker.check_model(proto, full_check=True)
    images_NCHW = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images_NCHW).numpy()
    found = run_session(open_session(made, threads=1), images_NCHW.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    (opset,) = [one.version for one in proto.opset_import]
    return opset, proto.ir_version


@pytest.mark.parametrize("name", ["baseline_cnn", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_models_are_written_for_older_runtimes(name: str):
    assert exported(build_model(Recipe(model=name, input_size=64), 5), 64) == (17, 8)


def test_every_operator_that_opset_17_has_too_is_rewritten():
    assert exported(Reductions()) == (17, 8)


def test_a_model_that_opset_17_can_not_express_keeps_the_next():
    assert exported(Antialiased()) == (18, 8)


def test_parts_of_different_length_are_kept():
    assert exported(Uneven()) == (17, 8)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 4), nn.LogSoftmax(1)),
            "log_probabilities",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 4)), "logits"),
    ],
)
def test_the_output_is_named_for_what_it_is(model: nn.Module, name: str, tmp_path: Path):
    about = About(
        classes=("a", "b", "c", "d"),
        input_size=SIZE,
        prepared_size=SIZE,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        accuracy=0.5,
        recipe={},
        versions={},
    )
    write_onnx(model.eval(), about, tmp_path / "model.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [output.name for output in session.get_outputs()] == [name]
    (found,) = session.run(None, {"image": np.ones((2, 3, SIZE, SIZE), dtype=np.float32)})
    sums = np.exp(np.asarray(found)).sum(axis=1)
    assert np.allclose(sums, 1) == (name == "log_probabilities")
