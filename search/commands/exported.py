"""`flopwise predict` and `evaluate`: run an exported model, without torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from analysis.columns import amount
from search.commands.printing import AsJson, console, near, print_json, progress_bar

if TYPE_CHECKING:
    from trainables.inference.predictions import Prediction

Model = Annotated[Path, typer.Argument(metavar="EXPORT", help="An .onnx file of flopwise export.")]


def predict(
    export: Model,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="Number of classes for each image.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Print the most probable classes of each image."""
    from trainables.inference.onnx_model import open_exported
    from trainables.inference.predictions import find_images
    from trainables.inference.predictions import predict as predict_images

    model = open_exported(export)
    files = find_images(images)
    predictions = []
    with progress_bar("predicting") as progress:
        for answer in predict_images(model, files, top):
            predictions.append(answer)
            progress(len(predictions), len(files))
    if as_json:
        print_json([_as_json(answer) for answer in predictions])
    elif any(answer.classes for answer in predictions):
        console().print(_prediction_table(predictions))
    problems = [
        f"{near(answer.path)}: {answer.problem}" for answer in predictions if answer.problem
    ]
    if problems:
        raise _user_error(problems)


def evaluate(
    export: Model,
    data: Annotated[Path, typer.Argument(help="Prepared data, or a folder of class folders.")],
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="The split of prepared data.")
    ] = "validation",
    as_json: AsJson = False,
) -> None:
    """Count how many images an exported model gets right, in all and by class."""
    from trainables.inference.onnx_model import open_exported
    from trainables.inference.predictions import evaluate as evaluation

    model = open_exported(export)
    with progress_bar("evaluating") as progress:
        found = evaluation(model, data, split, progress=progress)
    if as_json:
        print_json(
            {
                **found.metrics,
                "accuracy_interval": {"low": found.interval.low, "high": found.interval.high},
                "images": found.images,
                "correct": found.correct,
                "classes": {
                    name: {"images": images, "correct": correct}
                    for name, (images, correct) in found.by_class.items()
                },
                "skipped": list(found.skipped),
            }
        )
    else:
        screen = console()
        worst = sorted(found.by_class.items(), key=lambda item: item[1][1] / item[1][0])[:5]
        table = Table("class", "images", "right", box=None, title="least accurate classes")
        for name, (images, correct) in worst:
            table.add_row(Text(name), str(images), f"{correct / images:.0%}")
        if len(found.by_class) > 1:
            screen.print(table)
            others = (amount(name, value) for name, value in found.metrics.items())
            screen.print(", ".join(list(others)[1:]), soft_wrap=True)
        screen.print(
            f"accuracy {found.accuracy:.2%} (95 % interval: {found.interval.write_ends()}):"
            f" {found.correct:,} of {found.images:,} images; the trial had"
            f" {model.about.accuracy:.2%} on its validation split",
            soft_wrap=True,
        )
    if found.skipped:
        raise _user_error(list(found.skipped))


def _prediction_table(predictions: "list[Prediction]") -> Table:
    table = Table("image", "class", "probability", box=None)
    for answer in predictions:
        for rank, (name, probability) in enumerate(
            zip(answer.classes, answer.probabilities, strict=True)
        ):
            table.add_row(Text("" if rank else near(answer.path)), Text(name), f"{probability:.1%}")
    return table


def _as_json(answer: "Prediction") -> dict:
    return {
        "image": str(answer.path),
        "top": [
            {"class": name, "probability": probability}
            for name, probability in zip(answer.classes, answer.probabilities, strict=True)
        ],
        **({"problem": answer.problem} if answer.problem else {}),
    }


def _user_error(problems: list[str]) -> Exception:
    """The error that lists unreadable images, raised after the other predictions are printed."""
    from spaces.errors import UserError

    return UserError("\n".join(problems))
