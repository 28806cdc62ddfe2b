"""`flopwise train` and `cost`: one recipe, outside of a search."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from search.commands.printing import AsJson, console, near, print_json

RecipeFile = Annotated[Path, typer.Argument(help="A recipe file. Missing fields take defaults.")]


def train(
    recipe: RecipeFile,
    data: Annotated[Path, typer.Option(help="Prepared data.")],
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads. Default: the exported trial's, else all cores."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu or cuda. Default: the exported trial's, else a GPU if any."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the trained state dict here.")] = None,
) -> None:
    """Train one recipe, such as an exported one, and validate it after every epoch."""
    from search.followups.retrain import retrain

    screen = console()
    heading = "epoch  train loss  train acc  val loss  accuracy  learning rate  seconds"
    shown: list[int] = []

    def report(epoch) -> None:
        if not shown:
            screen.print(heading)
        shown.append(epoch.epoch)
        screen.print(
            f"{epoch.epoch:5}  {epoch.train_loss:10.4f}  {epoch.train_accuracy:9.1%}"
            f"  {epoch.val_loss:8.4f}  {epoch.accuracy:8.2%}  {epoch.learning_rate:13.2e}"
            f"  {epoch.seconds:7.1f}"
        )

    result = retrain(recipe, data, report, threads=threads, device=device, out=out)
    line = f"validation accuracy {result.accuracy:.2%}"
    if result.recorded is not None:
        line += f"; the search recorded {result.recorded:.2%}"
    screen.print(line)
    if out is not None:
        screen.print(f"weights: {near(out)}", markup=False, soft_wrap=True)


def cost(
    recipe: RecipeFile,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 1000,
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure latency here too; takes some seconds.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the costs of running a recipe's model, without training it."""
    from spaces.recipe import read_recipe

    read = read_recipe(recipe)
    # Imported after the file is read, so that a mistake in it does not wait for torch.
    from spaces.columns import COSTS, LATENCY
    from trainables.cost import recipe_cost

    found, measured = recipe_cost(read, classes), None
    if latency:
        from trainables.export.untrained_latency import measure_untrained_latency

        measured = measure_untrained_latency(read, classes)
        found = found.with_latency(measured.median_ms)
    if as_json:
        print_json(found.to_dict())
        return
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, column in COSTS.items():
        value, meaning = found[name], column.meaning
        if measured is not None and name == LATENCY:
            meaning = f"ms per image, one thread, {measured.machine}"
        decimals = 0 if column.whole else column.decimals
        table.add_row(name, "-" if value is None else f"{value:,.{decimals}f}", meaning)
    screen = console()
    screen.print(f"{read.model} at {read.input_size} px, {classes:,} classes", markup=False)
    screen.print(table)
    if found.float_layers:
        screen.print(f"stays float: {', '.join(found.float_layers)}", markup=False, soft_wrap=True)
    if found.uncounted:
        screen.print(f"not counted: {', '.join(found.uncounted)}", markup=False, soft_wrap=True)
