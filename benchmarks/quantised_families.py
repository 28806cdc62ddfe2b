"""Whether each model family can be quantised, trained so, and run: prepare, a step, convert, ONNX.

    python benchmarks/quantised_families.py [--only swin_t convnext_tiny]

One model of each family that torchvision has, and the baseline CNN, from random weights, on four
random images: batch norm sees some, fake quantisation is put in and gets one backward pass, torch
converts, ONNX Runtime runs what is exported. Told is what the search says that the file will take,
what it takes, the layers that stay float, and the largest difference of an output, relative to the
largest output of the float model. It says nothing of accuracy (quantisation.py does).
"""

import argparse
import sys
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from spaces.recipe import Recipe, recipe_from
from trainables.cost import recipe_cost
from trainables.inference.onnx_model import open_session, run_session
from trainables.learning.quantization import convert, prepare_qat
from trainables.models.building import build_model
from trainables.models.model_export import make_onnx, quiet

CLASSES = 5
FAMILIES = (
    *("baseline_cnn", "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0"),
    *("efficientnet_v2_s", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2"),
    *("mobilenet_v3_small", "mobilenet_v3_large", "regnet_x_400mf", "regnet_y_400mf", "resnet18"),
    *("resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0", "squeezenet1_1"),
    *("swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_16", "vit_b_32", "wide_resnet50_2"),
)
SIZE = 64
OTHER_SIZES = {"inception_v3": 96, "maxvit_t": 224, "vit_b_16": 32, "vit_b_32": 32}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=FAMILIES)
    only = parser.parse_args().only
    table = Table(
        "model", "px", "size_mb", "file (MB)", "float layers", "ONNX, torch", "int8, float", "s"
    )
    failed = []
    for name in only:
        size = OTHER_SIZES.get(name, SIZE)
        try:
            table.add_row(name, str(size), *message(name, size))
        except Exception as error:
            failed.append(name)
            table.add_row(name, str(size), f"{type(error).__name__}: {str(error)[:60]}")
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    if failed:
        sys.exit(f"can't be quantised: {', '.join(failed)}")


def message(name: str, size: int) -> list[str]:
    started = time.monotonic()
    recipe = recipe_from({"model": name, "input_size": size, "qat": True, "epochs": 3})
    images_NCHW = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    model = alive(recipe, images_NCHW)
    with quiet():
        prepared = prepare_qat(model, [images_NCHW])
        prepared(images_NCHW).sum().backward()
        assert all(weight.grad is not None for weight in prepared.parameters())
        int8 = convert(prepared)
        made = make_onnx(int8, size)
    with torch.no_grad():
        in_float, in_torch = model(images_NCHW).numpy(), int8(images_NCHW).numpy()
    in_onnx = run_session(open_session(made, threads=torch.get_num_threads()), images_NCHW.numpy())
    cost = recipe_cost(recipe, CLASSES)
    largest = np.abs(in_float).max()
    return [
        f"{cost.size_mb:.2f}",
        f"{len(made) / 1e6:.2f}",
        str(len(cost.float_layers)),
        *(
            f"{np.abs(one - other).max() / largest:.1%}"
            for one, other in ((in_onnx, in_torch), (in_torch, in_float))
        ),
        f"{time.monotonic() - started:.0f}",
    ]


def alive(recipe: Recipe, images_NCHW: torch.Tensor) -> torch.nn.Module:
    """A model with weights and statistics with which every layer returns something."""
    torch.manual_seed(0)
    model = build_model(recipe, CLASSES).train()
    for weight in model.parameters():
        if not weight.any():  # torchvision's head of a ViT is all zeros
            torch.nn.init.normal_(weight, std=0.02)
    with torch.no_grad():
        for _ in range(3):
            model(images_NCHW)
    return model.eval()


if __name__ == "__main__":
    main()
