"""`flopwise train` and `cost`: one recipe, outside of a search."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from search.commands.printing import AsJson, console, error_console, near, print_json

if TYPE_CHECKING:
    from trainables.layer_costs import LayerCost, LayerCosts

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
        screen.print(f"weights: {near(out)}", soft_wrap=True)


def cost(
    recipe: RecipeFile,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 1000,
    latency: Annotated[
        bool, typer.Option("--latency", help="Measure latency here too; takes some seconds.")
    ] = False,
    by_layer: Annotated[
        bool,
        typer.Option("--by-layer", help="List the layers, with fvcore's counts beside ours."),
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
    layers = None
    if by_layer:
        from trainables.layer_costs import layer_costs

        with error_console().status("counting with fvcore ..."):
            layers = layer_costs(read, classes)
    if as_json:
        print_json({**found.to_dict(), **(_layers_as_json(layers) if layers else {})})
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
    screen.print(f"{read.model} at {read.input_size} px, {classes:,} classes")
    screen.print(table)
    if found.float_layers:
        screen.print(f"stays float: {', '.join(found.float_layers)}", soft_wrap=True)
    if found.uncounted:
        screen.print(f"not counted: {', '.join(found.uncounted)}", soft_wrap=True)
    if layers is not None:
        _print_layers(layers, screen)


def _layers_as_json(costs: "LayerCosts") -> dict:
    fvcore = costs.fvcore
    return {
        "layers": [asdict(layer) for layer in costs.layers],
        "fvcore": {
            "total": fvcore and fvcore.total,
            "left_out": costs.left_out,
            "missed": fvcore and fvcore.missed,
            "problem": costs.problem,
        },
    }


def _print_layers(costs: "LayerCosts", screen: Console) -> None:
    """Print a row for each layer, or two lines where the screen is too narrow, and the sums."""
    headings = ("output", "parameters", "multiply-adds", "bits", "fvcore")
    rows = {layer.name or "(outside of layers)": _numbers(layer) for layer in costs.layers}
    table = Table("layer", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, numbers in rows.items():
        table.add_row(Text(name), *numbers)
    screen.print()
    unlimited = screen.options.update(max_width=10_000)
    if Measurement.get(screen, unlimited, table).maximum <= screen.width:
        screen.print(table)
    else:
        for name, numbers in rows.items():
            named = (" ".join(pair) for pair in zip(headings, numbers, strict=True))
            screen.print(f"{name}\n  {', '.join(named)}")
    screen.print(
        "bits: of weights and activations, in layers that do multiply-adds", soft_wrap=True
    )
    sums = f"sums: {costs.macs:,} multiply-adds"
    if costs.fvcore is None:
        sums += f"; fvcore can't count this model: {costs.problem}"
    else:
        missed = [f"{name} ({number})" for name, number in costs.fvcore.missed.items()]
        line = f"operators that fvcore misses: {', '.join(missed) or 'none'}"
        screen.print(line, soft_wrap=True)
        sums += f"; {_compared(costs, costs.fvcore.total)}"
    screen.print(sums, soft_wrap=True)


def _numbers(layer: "LayerCost") -> tuple[str, ...]:
    return (
        "x".join(map(str, layer.output_shape)) if layer.output_shape else "-",
        f"{layer.params:,}",
        f"{layer.macs:,}",
        "-" if layer.bits is None else str(layer.bits),
        "-" if layer.fvcore is None else f"{layer.fvcore:,}",
    )


def _compared(costs: "LayerCosts", fvcore: int) -> str:
    """Compare fvcore's sum with ours."""
    line = f"fvcore counts {fvcore:,}"
    if costs.left_out:
        names = " and ".join(f"{number:,} for {name}" for name, number in costs.left_out.items())
        fvcore -= sum(costs.left_out.values())
        line += f", of which {names} are left out here; the other {fvcore:,} are"
    else:
        line += ","
    difference = fvcore - costs.macs
    more = "more" if difference > 0 else "fewer"
    return f"{line} {f'{abs(difference):,} {more}' if difference else 'equal'}"
