"""What int8 buys and what it takes: each family in float and after QAT, side by side.

    python benchmarks/quantisation.py [--models NAME ...] [--epochs 9] [--times 1] [--threads 2]
    python benchmarks/quantisation.py --artefact

The same recipe twice, once with `qat`: the same epochs in all, of which the last third are
quantisation-aware. Both are exported to ONNX and checked as `flopwise export` does it; accuracy is
the trial's on the validation split, size_mb the file's, latency_ms that of the file (ONNX Runtime,
one image, one thread, median). mobilenet_v2 has ImageNet weights, its last 8 blocks train, on
../shared/data/animals25 at 96 px; where that is absent, and for all others, it is generated images
(12 classes, 64 px, some 500; --times as many) from random weights, everything trains, and
accuracies say no more than whether int8 keeps them.

--artefact counts the operations of torchvision's own quantised MobileNetV3-Large, the way that
gave a report 0.003 GFLOPs for an int8 model, beside ours.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torchvision
from comparison.images import ANIMALS, WEIGHTS
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from spaces.recipe import BASELINE, Recipe
from trainables.cost import measure_cost, recipe_cost
from trainables.data.dataset import ImageData
from trainables.data.demo_images import make_demo
from trainables.export.trained_model import load_trained
from trainables.export.verified_export import export_verified
from trainables.inference.latency import measure_latency
from trainables.learning.checkpoint import CHECKPOINT_FILE
from trainables.models.building import build_model
from trainables.prepare import prepare
from trainables.training import Training, use_threads

MODELS = ("mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "resnet50", BASELINE)
COLUMNS = ("accuracy", "gflops", "effective_gflops", "gbops", "size_mb", "latency_ms", "seconds")
console = Console(width=120, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Float and int8, side by side.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--times", type=int, default=1, help="As many generated images.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="Where figures go, as JSON.")
    parser.add_argument("--artefact", action="store_true")
    options = parser.parse_args()
    if options.artefact:
        print_artefact()
        return
    use_threads(options.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        generated = make_demo(Path(folder) / "generated", classes=12, size=64, times=options.times)
        for model in options.models:
            recipe, data = recipe_and_data(model, generated, Path(folder), options.epochs)
            for qat in (False, True):
                row = measure(recipe.replace(qat=qat), data, Path(folder), options.threads)
                rows.append(row)
                console.print(
                    f"{model} {'int8' if qat else 'float'}: {row['accuracy']:.2%}"
                    f" in {row['seconds']:.0f} s",
                )
                if options.out is not None:
                    options.out.write_text(json.dumps(rows, indent=1))
    print_rows(rows)


def recipe_and_data(
    model: str, generated: ImageData, folder: Path, epochs: int
) -> tuple[Recipe, ImageData]:
    """A recipe that trains in float, and what it trains on."""
    common: dict[str, Any] = {"epochs": epochs, "scheduler": "cosine", "batch_size": 32}
    if model == "mobilenet_v2" and ANIMALS.is_dir() and WEIGHTS.is_file():
        photographs = prepare(str(ANIMALS), folder / "animals25", size=96)
        recipe = Recipe(
            model=model,
            weights=str(WEIGHTS),
            unfrozen=8,
            input_size=96,
            learning_rate=5e-4,
            label_smoothing=0.1,
            **common,
        )
        return recipe, photographs
    options = {"batch_norm": True, "width": 0.5} if model == BASELINE else {}
    return Recipe(model=model, input_size=64, learning_rate=1e-3, **options, **common), generated


def measure(recipe: Recipe, data: ImageData, folder: Path, threads: int) -> dict[str, Any]:
    started = time.monotonic()
    training = Training(recipe, data)
    while not training.done:
        training.run_epoch()
    seconds = time.monotonic() - started
    checkpoint = folder / f"{recipe.key}"
    checkpoint.mkdir()
    torch.save(training.state_dict(), checkpoint / CHECKPOINT_FILE)
    file = folder / f"{recipe.key}.onnx"
    trained = load_trained(recipe, data, checkpoint, threads=threads)
    _, checked = export_verified(trained, data, file, "onnx")
    cost = recipe_cost(recipe, len(data.classes))
    latency = measure_latency(file)
    return {
        "model": recipe.model,
        "int8": recipe.qat,
        "data": data.name,
        "accuracy": training.history[-1].accuracy,
        "accuracies": [metrics.accuracy for metrics in training.history],
        "gflops": cost.gflops,
        "effective_gflops": cost.effective_gflops,
        "gbops": cost.gbops,
        "size_mb": file.stat().st_size / 1e6,
        "counted_size_mb": cost.size_mb,
        "latency_ms": latency.median_ms,
        "latency_quartiles_ms": latency.quartiles_ms,
        "machine": latency.machine,
        "seconds": seconds,
        "checked": checked,
        "recipe": recipe.to_dict(),
    }


def print_rows(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, title=rows[0]["machine"])
    table.add_column("model")
    table.add_column("")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["model"],
            "int8" if row["int8"] else "float",
            f"{row['accuracy']:.2%}",
            *(f"{row[name]:.4g}" for name in COLUMNS[1:]),
        )
    console.print(table)


def print_artefact() -> None:
    """What a counter of operators sees of a quantised model, and what there is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is on its way out, and says so
        engine = "qnnpack" if "qnnpack" in torch.backends.quantized.supported_engines else "x86"
        torch.backends.quantized.engine = engine
        quantised = torchvision.models.quantization.mobilenet_v3_large(
            weights=None, quantize=True, num_classes=151
        ).eval()
    image = torch.zeros(1, 3, 224, 224)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        quantised(image)
    recipe = Recipe(model="mobilenet_v3_large", input_size=224)
    model = build_model(recipe, 151)
    as_float, int8 = measure_cost(model, 224), measure_cost(model, 224, int8=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("MobileNetV3-Large, 224 px, 151 classes")
    table.add_column("GFLOPs", justify="right")
    table.add_row("the report: float", "0.431")
    table.add_row("the report: after QAT", "0.00296")
    table.add_row("torch's FlopCounterMode on the quantised model", f"{_gflops(counter):.5f}")
    table.add_row(
        "its convolutions' weights and biases, counted in billions",
        f"{_num_in_convolutions(model) / 1e9:.5f}",
    )
    table.add_row("flopwise: float", f"{as_float.gflops:.9f}")
    table.add_row("flopwise: int8, gflops (the same multiply-adds)", f"{int8.gflops:.9f}")
    table.add_row("flopwise: int8, effective_gflops", f"{int8.effective_gflops:.9f}")
    console.print(table)


def _num_in_convolutions(model: nn.Module) -> int:
    """Numbers that convolutions hold once batch norm is folded into them: a bias a channel."""
    convolutions = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    return sum(part.weight.numel() + part.out_channels for part in convolutions)


def _gflops(counter: FlopCounterMode) -> float:
    return counter.get_total_flops() / 1e9


if __name__ == "__main__":
    main()
