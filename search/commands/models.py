"""`flopwise models`: list models and their blocks."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from search.commands.printing import AsJson, console, print_json

app = typer.Typer(help="List models and their blocks.", no_args_is_help=True)


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List every model, family by family: ours, then torchvision's classifiers."""
    from trainables.describe import list_models

    models = list_models()
    if as_json:
        print_json([asdict(model) for model in models])
        return
    table = Table(box=None, caption="counted with a head for 1,000 classes", caption_justify="left")
    table.add_column("model")
    for heading in ("input px", "GFLOPs", "parameters", "ImageNet %"):
        table.add_column(heading, justify="right")
    for model in models:
        accuracy = "" if model.imagenet_accuracy is None else f"{model.imagenet_accuracy:.1%}"
        table.add_row(
            model.name,
            str(model.input_size),
            f"{2 * model.gmacs:.3g}",
            f"{model.params:,}",
            accuracy.removesuffix("%"),
        )
    console().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A model's name: see `flopwise models list`.")],
    input_size: Annotated[
        int, typer.Option(min=8, max=2048, help="Height and width in pixels.")
    ] = 224,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """List a model's blocks. `unfrozen` counts them from the end."""
    from trainables.describe import describe_model

    model = describe_model(name, input_size, classes)
    if as_json:
        print_json({**asdict(model), "cost": model.cost.to_dict()})
        return
    table = Table(
        box=None,
        caption=f"{model.cost.gflops:.4g} GFLOPs, {model.cost.params:,} parameters at"
        f" {model.input_size} px and {model.num_classes} classes",
        caption_justify="left",
    )
    table.add_column("block")
    for heading in ("trains if unfrozen >=", "parameters", "GFLOPs"):
        table.add_column(heading, justify="right")
    for row in model.rows:
        table.add_row(row.name, str(row.unfrozen), f"{row.params:,}", f"{2 * row.gmacs:.4g}")
    console().print(table)
