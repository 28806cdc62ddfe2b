"""`flopwise status`, `front` and `export`: what a run has found."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from search.commands.cluster import Cluster, on_head
from search.commands.printing import AsJson, console, near, print_json, program

if TYPE_CHECKING:
    from analysis.runs import Run

RunArgument = Annotated[
    str, typer.Argument(help="A run folder, or its address: <storage>/<study name>.")
]


def status(run: RunArgument, cluster: Cluster = None, as_json: AsJson = False) -> None:
    """Show how far a search has come."""
    if cluster is not None:
        on_head(cluster, ["status", run, *(["--json"] if as_json else [])])
        return
    from analysis.results.status import run_status, status_table
    from analysis.runs import read_run
    from search.storage.fetched_run import fetch_run
    from search.storage.run_lock import is_searched

    path = fetch_run(run)
    read = read_run(path)
    searched = is_searched(path)
    if as_json:
        print_json(run_status(read, searched=searched, location=run))
    else:
        console().print(status_table(read, searched=searched, location=run))


def front(
    run: RunArgument,
    picture: Annotated[
        Path | None, typer.Option(help="Where to write the PNG. Default: RUN/export/front.png.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the front of a run: every recipe that no other dominates in accuracy and cost."""
    from analysis.results.front_table import front_records
    from analysis.runs import read_run
    from search.followups.confirmed import confirmed_accuracies
    from search.storage.fetched_run import fetch_run
    from spaces.files import check_writable

    read = read_run(fetch_run(run))
    if as_json:
        print_json(front_records(read, confirmed_accuracies(read)))
        return
    if picture is not None:
        check_writable(picture)
    print_front(console(), read, picture)


def export(
    run: RunArgument,
    pick: Annotated[
        str,
        typer.Option(
            help='knee, most-accurate, cheapest, "drop<=1%", "accuracy>=0.9", or a trial\'s number.'
        ),
    ] = "knee",
    form: Annotated[
        Literal["recipe", "onnx", "pt2", "pte"],
        typer.Option("--format", help="The recipe, or a file of the trained model, checked."),
    ] = "recipe",
    out: Annotated[
        Path | None, typer.Option(help="The file to write. Default: trial-N in RUN/export.")
    ] = None,
) -> None:
    """Export one trial: its recipe with its results, or the trained model.

    onnx runs in ONNX Runtime (flopwise predict, evaluate), pt2 in torch, pte in ExecuTorch.
    """
    from search.followups.export import export_model, export_recipe
    from search.storage.fetched_run import fetch_run

    screen = console()
    folder = fetch_run(run)
    if form == "recipe":
        path, reason = export_recipe(folder, pick, out)
        lines = [reason, f"recipe: {near(path)}"]
    else:
        with screen.status("exporting"):
            exported = export_model(folder, pick, form, out)
        lines = [exported.reason, exported.checked]
        if exported.latency:
            lines.append(exported.latency)
        lines.append(f"model: {near(exported.path)}; its card: {near(exported.card)}")
        if form == "onnx":
            lines.append(f"next: {program()} predict {shlex.quote(near(exported.path))} IMAGE")
    for line in lines:
        screen.print(line, soft_wrap=True)


def print_front(screen: Console, run: "Run", picture: Path | None = None) -> None:
    """Print a run's front as a table and a plot, and draw it as a PNG."""
    from rich.text import Text

    from analysis.plots.front_picture import front_picture
    from analysis.plots.terminal import front_text
    from analysis.results.front_table import front_table
    from search.followups.confirmed import confirmed_accuracies
    from spaces.files import make_folder

    screen.print(front_table(run, width=screen.width, tested=confirmed_accuracies(run)))
    plot = front_text(run, width=min(screen.width, 100), colour=screen.is_terminal)
    screen.print(Text.from_ansi(plot))
    path = picture or run.path / "export" / "front.png"
    if picture is None:
        make_folder(path.parent)
    screen.print(f"picture: {near(front_picture(run, path))}", soft_wrap=True)
