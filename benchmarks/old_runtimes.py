"""Whether exported ONNX files load in an older ONNX Runtime, and give the same outputs there.

    python3.11 -m venv old && old/bin/pip install onnxruntime==1.16.3 'numpy<2'
    python benchmarks/old_runtimes.py --runtime old/bin/python [another/bin/python ...]

Models of several families, float and int8, from random weights, on four random images, as in
quantised_families.py. Each file is checked by onnx.checker. Told is its opset and IR version, and
for each runtime the largest difference of an output from torch's, relative to the largest output.
The installed ONNX Runtime is always tried, first.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from quantised_families import CLASSES, OTHER_SIZES, SIZE, alive

from spaces.recipe import recipe_from
from trainables.learning.quantization import convert, prepare_qat
from trainables.models.model_export import make_onnx, quiet

MODELS = (
    *("baseline_cnn", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "resnet18"),
    *("shufflenet_v2_x0_5", "vit_b_32", "swin_t", "swin_v2_t", "convnext_tiny", "densenet121"),
)

# Runs in the other environment, which has nothing but numpy and onnxruntime.
RUN = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
numpy.save(sys.argv[3], session.run(None, {"image": numpy.load(sys.argv[2])})[0])
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", nargs="+", default=[], help="Python of an environment.")
    parser.add_argument("--only", nargs="+", default=MODELS)
    arguments = parser.parse_args()
    runtimes = [sys.executable, *arguments.runtime]
    names = [version_of(python) for python in runtimes]
    print("model", "", "opset", "IR", *names, sep=" | ")
    for model in arguments.only:
        for int8 in (False, True):
            row = results(model, int8, runtimes)
            print(model, "int8" if int8 else "float", *row, sep=" | ", flush=True)


def version_of(python: str) -> str:
    code = "import onnxruntime; print(onnxruntime.__version__)"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def results(name: str, int8: bool, runtimes: list[str]) -> list[str]:
    size = OTHER_SIZES.get(name, SIZE)
    recipe = recipe_from({"model": name, "input_size": size, "qat": int8, "epochs": 3})
    images_NCHW = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    model = alive(recipe, images_NCHW)
    with quiet():
        if int8:
            model = convert(prepare_qat(model, [images_NCHW]))
        made = make_onnx(model, size)
    proto = onnx.load_model_from_string(made)
    onnx.checker.check_model(proto, full_check=True)
    with torch.no_grad():
        expected_NK = model(images_NCHW).numpy()
    assert expected_NK.shape == (4, CLASSES)
    row = [str(proto.opset_import[0].version), str(proto.ir_version)]
    with tempfile.TemporaryDirectory() as folder:
        file, images = Path(folder) / "model.onnx", Path(folder) / "images.npy"
        file.write_bytes(made)
        np.save(images, images_NCHW.numpy())
        for python in runtimes:
            out = Path(folder) / "out.npy"
            done = subprocess.run(
                [python, "-c", RUN, file, images, out], capture_output=True, text=True, check=False
            )
            if done.returncode:
                row.append(done.stderr.strip().splitlines()[-1][:60])
                continue
            largest = np.abs(np.load(out) - expected_NK).max() / np.abs(expected_NK).max()
            row.append(f"{largest:.1e}")
    return row


if __name__ == "__main__":
    main()
