"""`flopwise report`, `compare`, `watch` and `dashboard`: look at one run or several."""

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from search.commands.printing import AsJson, console, near, print_json
from search.commands.results import RunArgument

_WATCH_SECONDS = 2.0
ReferenceAccuracy = Annotated[
    float | None,
    typer.Option(
        help="Hypervolumes count accuracy, or the study's metric, above this. Default: guessing.",
    ),
]
CostRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="And costs in this range. Default: that of the models above that accuracy.",
    ),
]


def report(
    run: RunArgument,
    pick: Annotated[
        str, typer.Option(help="The trial that the report describes: a rule as in export --pick.")
    ] = "knee",
    out: Annotated[Path | None, typer.Option(help="The page. Default: RUN/report.html.")] = None,
    reference_accuracy: ReferenceAccuracy = None,
    cost_range: CostRange = None,
    latency: Annotated[
        bool,
        typer.Option(
            help="Measure latencies of the front on this machine, once; about 10 s per model."
        ),
    ] = True,
) -> None:
    """Write a run's report: one HTML file that needs no network, and PNG pictures."""
    from analysis.results.hypervolume_range import HypervolumeRange
    from search.followups.report import make_report
    from search.storage.fetched_run import fetch_run

    screen = console()
    wanted = HypervolumeRange(reference_accuracy=reference_accuracy, cost_range=cost_range)
    with screen.status("reading the run") as status:
        made = make_report(
            fetch_run(run),
            pick,
            out,
            hypervolume_range=wanted,
            latency=latency,
            tell=status.update,
        )
    lines = [made.chosen.reason, *made.notes, *([made.latency] if made.latency else [])]
    lines.append(f"report: {near(made.page)}")
    lines.append(f"pictures: {near(made.pictures[0].parent)} ({len(made.pictures)} PNG files)")
    for line in lines:
        screen.print(line, soft_wrap=True)


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN RUN ...", help="Run folders, or their addresses.")
    ],
    picture: Annotated[Path, typer.Option(help="Where to write the PNG of all fronts.")] = Path(
        "compare.png"
    ),
    reference_accuracy: ReferenceAccuracy = None,
    cost_range: CostRange = None,
    as_json: AsJson = False,
) -> None:
    """Compare the fronts of runs: their hypervolumes, and which points no other run beats."""
    from analysis.results.comparison import (
        compare_runs,
        comparison_picture,
        comparison_records,
        comparison_table,
    )
    from analysis.results.hypervolume_range import HypervolumeRange
    from analysis.runs import read_run
    from search.storage.fetched_run import fetch_run

    wanted = HypervolumeRange(reference_accuracy=reference_accuracy, cost_range=cost_range)
    compared = compare_runs([read_run(fetch_run(run)) for run in runs], wanted)
    if as_json:
        print_json(comparison_records(compared))
        return
    screen = console()
    screen.print(comparison_table(compared))
    path = comparison_picture(compared, picture)
    screen.print(f"picture: {near(path)}", soft_wrap=True)


def watch(run: RunArgument) -> None:
    """Show how far a search has come, from any terminal, until it ends or you press Ctrl-C."""
    from rich.live import Live

    from analysis.results.status import watch_view
    from analysis.runs import read_run
    from search.storage.fetched_run import fetch_run
    from search.storage.run_lock import is_searched

    screen = console()
    path = fetch_run(run)
    searched = is_searched(path)
    view = watch_view(read_run(path), searched=searched, location=run)
    if not screen.is_terminal or not searched:
        screen.print(view)
        return
    with Live(view, console=screen, auto_refresh=False) as live:
        while searched:
            time.sleep(_WATCH_SECONDS)
            path = fetch_run(run)
            searched = is_searched(path)
            live.update(watch_view(read_run(path), searched=searched, location=run), refresh=True)


def dashboard(
    run: RunArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, help="A port of this machine.")] = 8080,
) -> None:
    """Serve optuna-dashboard for a run, also during its search; on this machine only."""
    from search.commands.dashboard import serve_dashboard
    from search.storage.fetched_run import fetch_run

    screen = console()
    folder = fetch_run(run)
    serve_dashboard(
        folder,
        port,
        tell=lambda address: screen.print(
            f"{shlex.quote(near(folder))}: {address} (Ctrl-C ends it)"
        ),
    )
