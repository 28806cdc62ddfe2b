"""`flopwise replay`: search a table of learning curves again in simulated time."""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from search.commands.printing import console, error_console, near, print_json

if TYPE_CHECKING:
    from search.decisions.stopping_rules import EarlyStoppingSettings


def replay(
    table: Annotated[
        str,
        typer.Argument(
            help="A run without early stopping (its folder, its trials.parquet, or an address), or"
            " a folder with a table.yaml."
        ),
    ],
    sampler: Annotated[
        list[str] | None, typer.Option(help="As in a study file, such as tpe; may be repeated.")
    ] = None,
    stopping: Annotated[
        list[str] | None,
        typer.Option(
            "--stopping",
            "--early-stopping",
            help="As in a study file, such as pareto; may be repeated.",
        ),
    ] = None,
    reduction: Annotated[float, typer.Option(help="One in this many trials passes a rung.")] = 1.5,
    workers: Annotated[int, typer.Option(min=1, help="Number of trials at once.")] = 4,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, help="Budget. Default: the table's recipes; twice those if rungs stop some."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Replays of each search: seeds 0, 1, ...")] = 5,
    picture: Annotated[Path | None, typer.Option(help="Where to write the PNG.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each seed's figures as JSON, for programs.")
    ] = False,
) -> None:
    """Search a table again, with each pair of the samplers and the early stopping that you name.

    Without names: a study's defaults, then what others offer. Time is simulated: each epoch takes
    as long as it did in the recording. A replay takes seconds, with the sampler gp minutes.
    """
    from analysis.results.hypervolume_trace import budgets_table, traces_picture, traces_table
    from search.decisions.samplers import SAMPLERS
    from search.decisions.stopping_rules import STOPPING_RULES
    from search.simulation.comparison import (
        SHARES,
        comparison_row,
        default_pair,
        default_pairs,
        settings_of,
    )
    from search.simulation.reading import read_benchmark
    from search.simulation.simulator import simulate
    from search.storage.fetched_run import fetch_run
    from spaces.errors import UserError

    samplers = _known(sampler or [], SAMPLERS, "--sampler")
    rules = _known(stopping or [], STOPPING_RULES, "--stopping")
    if reduction <= 1:
        raise UserError(f"--reduction: {reduction:g} is not above 1")
    pairs = default_pairs()
    if samplers or rules:
        default = default_pair()
        pairs = list(itertools.product(samplers or [default[0]], rules or [default[1], "none"]))
        pairs.sort(key=lambda pair: pair != default)
    recorded = read_benchmark(fetch_run(table))
    ways = [
        settings_of(recorded, name, _stopping(rule, reduction), workers=workers, trials=trials)
        for name, rule in dict.fromkeys(pairs)
    ]
    replays = {way.name: [] for way in ways}
    with Progress(console=error_console() if as_json else console(), transient=True) as progress:
        task = progress.add_task("replaying", total=len(ways) * seeds)
        for way, seed in itertools.product(ways, range(seeds)):
            done = simulate(recorded, replace(way, seed=seed), until_complete=True)
            replays[way.name].append(done)
            progress.advance(task)
    rows = [comparison_row(recorded, of_seeds) for of_seeds in replays.values()]
    if as_json:
        print_json({"table": recorded.name, "rows": [row.to_dict() for row in rows]})
        return
    screen = console()
    traces = [row.trace for row in rows]
    of = f"{recorded.name}: {len(recorded.trials)} recorded trials, {workers} workers"
    shown = traces_table(traces, SHARES)
    shown.title = f"{of}: simulated time to a share of the front's hypervolume"
    screen.print(shown)
    reached = budgets_table(traces, rows[0].budgets)
    reached.title = (
        "\n% of the hypervolume after a part of the time that training every recipe once takes"
    )
    screen.print(reached)
    screen.print(
        f"median (quartiles) over {seeds} seed{'s' * (seeds > 1)}; times: to 95%, against row one;"
        " never: how many seeds, for each share"
    )
    path = traces_picture(traces, picture or Path(f"{recorded.name}-replay.png"), title=of)
    screen.print(f"picture: {near(path)}", soft_wrap=True)


def _stopping(name: str, reduction: float) -> "EarlyStoppingSettings":
    from search.decisions.stopping_rules import EarlyStoppingSettings, has_setting

    if has_setting(name, "reduction"):
        return EarlyStoppingSettings(name=name, reduction=reduction)
    return EarlyStoppingSettings(name=name)


def _known(names: list[str], table: Iterable[str], option: str) -> list[str]:
    from spaces.errors import UserError
    from spaces.yaml_files import one_of

    try:
        return [one_of(name, table) for name in names]
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None
