"""What int8 costs in accuracy, by the number of quantisation-aware epochs.

    python benchmarks/qat_epochs.py DATA [DATA ...] --weights FILE

For each prepared data set and seed, MobileNetV2 trains in float. From there it trains on: in float,
and quantisation-aware for 1, 2, 3 and 5 epochs. Compared are the float model at the switch, the
float model after as many epochs, and the int8 model in ONNX Runtime, on the validation split.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from spaces.recipe import recipe_from
from trainables.data.dataset import ImageData, open_data
from trainables.learning import quantization
from trainables.training import Training, use_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--input-size", type=int, default=96)
    parser.add_argument("--unfrozen", type=int, default=8, help="blocks that train")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--float-epochs", type=int, default=3)
    parser.add_argument("--int8-epochs", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--largest-weight", type=int, default=63, help="127: 8 bits, as CPUs with VNNI can add up"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    use_threads(options.threads)
    limit = options.largest_weight
    quantization._WEIGHT = replace(quantization._WEIGHT, quant_min=-limit, quant_max=limit)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for path in options.data:
            for row in accuracies(open_data(path), seed, options):
                rows.append(row)
                print(json.dumps(row), flush=True)
                if options.out is not None:
                    options.out.write_text(json.dumps(rows, indent=1))
    print_table(rows)


def accuracies(data: ImageData, seed: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each number of int8 epochs; accuracies in %."""
    values = {
        **{"model": options.model, "weights": options.weights, "seed": seed, "batch_size": 32},
        **{"input_size": options.input_size, "unfrozen": options.unfrozen},
        # A constant rate: so the float epochs are the same, however many come after them.
        **{"optimizer": options.optimizer, "learning_rate": options.learning_rate},
    }
    epochs = options.float_epochs + max(options.int8_epochs)
    in_float = Training(recipe_from({**values, "epochs": epochs}), data, device=_CPU)
    for _ in range(options.float_epochs):
        in_float.run_epoch()
    switch = in_float.state_dict()
    kept = {name: value.clone() for name, value in switch["model"].items()}
    while not in_float.done:
        in_float.run_epoch()
    for num_int8 in options.int8_epochs:
        recipe = recipe_from(
            {
                **{**values, "epochs": options.float_epochs + num_int8},
                **{"qat": True, "float_epochs": options.float_epochs},
            }
        )
        training = Training(recipe, data, device=_CPU)
        history = switch["history"][: options.float_epochs]
        training.load_state_dict(
            {**switch, "model": kept, "recipe": recipe.to_dict(), "history": history}
        )
        while not training.done:
            training.run_epoch()
        yield {
            "data": data.name,
            "seed": seed,
            "int8_epochs": num_int8,
            "at_switch": 100 * training.history[options.float_epochs - 1].accuracy,
            "in_float": 100 * in_float.history[options.float_epochs + num_int8 - 1].accuracy,
            "int8": 100 * training.history[-1].accuracy,
            "seconds": [round(epoch.seconds, 1) for epoch in training.history],
        }


def print_table(rows: list[dict[str, Any]]) -> None:
    print(
        "\n| data | int8 epochs | float at the switch | float trained on | int8 | int8 less float |"
    )
    print("|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["data"] for row in rows):
        for num_int8 in sorted({row["int8_epochs"] for row in rows}):
            cell = [r for r in rows if (r["data"], r["int8_epochs"]) == (name, num_int8)]
            if not cell:
                continue
            differences = [row["int8"] - row["at_switch"] for row in cell]
            means = [
                statistics.fmean(row[key] for row in cell)
                for key in ("at_switch", "in_float", "int8")
            ]
            print(
                f"| {name} | {num_int8} |",
                " | ".join(f"{mean:.1f} %" for mean in means),
                f"| {statistics.fmean(differences):+.1f}",
                f"({', '.join(f'{each:+.1f}' for each in differences)}) |",
            )


_CPU = torch.device("cpu")

if __name__ == "__main__":
    main()
