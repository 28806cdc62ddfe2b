"""The page for an exported model: what it is, its accuracy, its cost."""

from pathlib import Path
from typing import Any

from trainables.inference.latency import Latency
from trainables.inference.onnx_model import About


def model_card(
    file: Path,
    about: About,
    *,
    numbers: dict[str, Any],
    latency: Latency | None,
    checked: str,
    images: str = "N",
) -> str:
    """The page in Markdown. numbers: the trial's, as in an exported recipe.

    checked: the result of the check, in one sentence. images: how many the file takes at a time.
    """
    megabytes = file.stat().st_size / 1e6
    rows = [
        ("validation accuracy", f"{about.accuracy:.2%}"),
        ("GFLOPs of the float model", _number(numbers.get("gflops"))),
        ("effective GFLOPs (by bit operations)", _number(numbers.get("effective_gflops"))),
        ("billion bit operations", _number(numbers.get("gbops"))),
        ("parameters", f"{numbers['params']:,}" if numbers.get("params") else "–"),
        ("this file", f"{megabytes:.2f} MB"),
    ]
    if latency is not None:
        low, high = latency.quartiles_ms
        rows.append(
            (
                f"one image, one thread ({latency.machine}; median of {latency.runs} runs)",
                f"{latency.median_ms:.2f} ms (quartiles {low:.2f} to {high:.2f})",
            )
        )
    recipe = {name: value for name, value in about.recipe.items() if value is not None}
    lines = [
        f"# {file.name}",
        "",
        f"{recipe.get('model')}, {'int8' if recipe.get('qat') else 'float32'}, for"
        f" {len(about.classes)} classes, trained by flopwise.",
        "",
        "## Numbers",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        checked,
        "",
        "## Input and output",
        "",
        f"An RGB image: its largest centre square, resized to {_sizes(about)} px (bilinear,"
        f" antialiased), divided by 255, minus"
        f" {_list(about.mean)}, divided by {_list(about.std)}; float32, ({images}, 3,"
        f" {about.input_size}, {about.input_size}). The output is one value per class; softmax"
        " turns them into probabilities.",
        "",
        "## Data",
        "",
        f"Trained on `{numbers.get('data')}` (digest {numbers.get('data_digest')}). The accuracy is"
        " that of the validation split, by which the recipe was chosen. On new images, expect a"
        " little less.",
        "",
        "## Recipe",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in recipe.items()),
        "",
        "## Versions",
        "",
        ", ".join(f"{name} {value}" for name, value in about.versions.items()) + ".",
        "",
        "## Classes",
        "",
        ", ".join(about.classes) + ".",
        "",
    ]
    return "\n".join(lines)


def _sizes(about: About) -> str:
    if about.prepared_size == about.input_size:
        return str(about.input_size)
    return f"{about.prepared_size} px and then to {about.input_size}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _list(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
