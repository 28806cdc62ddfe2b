"""The page for an exported model: what it is, its accuracy, its cost."""

from pathlib import Path
from typing import Any

import onnx

from spaces.intervals import Interval
from trainables.export.verified_export import ModelForm
from trainables.inference.latency import Latency
from trainables.inference.onnx_model import About

# benchmarks/old_runtimes.py ran files of these opsets and this IR version in it.
_OLDEST_RUNTIME_TRIED = "1.15.1"
_OPSETS_TRIED, _IR_TRIED = (17, 18), 8
_OUTPUTS = {
    "logits": "one logit a class; softmax turns them into probabilities",
    "log_probabilities": "one log-probability a class; exp or softmax turn them into probabilities",
}

_FITS = {
    "crop": "its largest centre square, resized",
    "pad": "all of it, with black beside it so that it is square, resized",
    "stretch": "all of it, stretched",
}


def model_card(
    file: Path,
    about: About,
    *,
    numbers: dict[str, Any],
    validation: Interval,
    metric: str,
    reached: str,
    tested: Interval | None = None,
    latency: Latency | None,
    checked: str,
    form: ModelForm,
) -> str:
    """The page in Markdown. numbers: the trial's, as in an exported recipe.

    validation: the accuracy on the validation split. metric, reached: the study's metric in words,
    and what the trial had of it, such as 71.2 % macro F1. tested: the metric on the test split of
    models that `flopwise confirm` trained from this recipe with other seeds; None: it was not
    confirmed. checked: the result of the check, in one sentence.
    """
    images = "1" if form == "pte" else "N"
    output, needs = "one value per class; softmax turns them into probabilities", ""
    if form == "onnx":
        output, needs = _onnx_facts(file)
    megabytes = file.stat().st_size / 1e6
    rows = [
        *(
            []
            if metric == "accuracy"
            else [("what the search maximised (validation)", _cell(reached))]
        ),
        ("validation accuracy (95 % interval)", f"{validation.write_percent()} %"),
        (
            f"test {_cell(metric)} of this recipe with fresh seeds (95 % interval)",
            f"{tested.write_percent()} %" if tested else "not measured: flopwise confirm",
        ),
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
        f"An RGB image: {_FITS[about.fit]} to {_sizes(about)} px (bilinear,"
        f" antialiased), divided by 255, minus"
        f" {_list(about.mean)}, divided by {_list(about.std)}; float32, ({images}, 3,"
        f" {about.input_size}, {about.input_size}). The output is {output}.",
        "",
        "## Data",
        "",
        f"Trained on `{numbers.get('data')}` (digest {numbers.get('data_digest')}). The accuracy is"
        " that of the validation split, by which the recipe was chosen. Its interval is over other"
        " images of the same kind. On new images, expect a little less.",
        "",
        "## Recipe",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in recipe.items()),
        "",
        "## Versions",
        "",
        ", ".join(f"{name} {value}" for name, value in about.versions.items()) + "." + needs,
        "",
        "## Classes",
        "",
        "In the order of the outputs:",
        "",
        *(f"    {name}" for name in about.classes),  # Markdown shows indented lines as they are
        "",
    ]
    return "\n".join(lines)


def _onnx_facts(file: Path) -> tuple[str, str]:
    """What an ONNX file's output is, and which runtimes load the file; in words."""
    proto = onnx.load(file)
    opset = next(one.version for one in proto.opset_import if not one.domain)
    name = proto.graph.output[0].name
    needs = f" ONNX opset {opset}, IR version {proto.ir_version}"
    if opset in _OPSETS_TRIED and proto.ir_version == _IR_TRIED:
        needs += (
            f"; {_OLDEST_RUNTIME_TRIED} is the oldest ONNX Runtime that was tried with such files."
        )
    else:  # of an int8 trial that an older flopwise trained
        needs += "; ONNX Runtime before 1.18 refuses such files."
    return f"`{name}`: {_OUTPUTS[name]}", needs


def _sizes(about: About) -> str:
    if about.prepared_size == about.input_size:
        return str(about.input_size)
    return f"{about.prepared_size} px and then to {about.input_size}"


def _cell(text: str) -> str:
    """A text with a class's name for a Markdown table."""
    return " ".join(text.replace("|", r"\|").split())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _list(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
