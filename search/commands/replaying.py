"""`flopwise replay`: search a recorded run again in simulated time."""

import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from search.commands.printing import console, near

_SHARES = (0.8, 0.9, 0.95)


def replay(
    table: Annotated[
        str,
        typer.Argument(
            help="A run without early stopping: its folder, its trials.parquet, or an address."
        ),
    ],
    sampler: Annotated[
        list[str] | None, typer.Option(help="As in a study file, such as tpe; may be repeated.")
    ] = None,
    early_stopping: Annotated[
        list[str] | None, typer.Option(help="As in a study file, such as pareto; may be repeated.")
    ] = None,
    reduction: Annotated[float, typer.Option(help="One in this many trials passes a rung.")] = 1.5,
    workers: Annotated[int, typer.Option(min=1, help="Number of trials at once.")] = 4,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Budget. Default: twice the recorded trials.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Replays of each search: seeds 0, 1, ...")] = 5,
    picture: Annotated[Path | None, typer.Option(help="Where to write the PNG.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every replay as JSON, for programs.")
    ] = False,
) -> None:
    """Search a recorded run again, with each sampler and each early stopping that you name.

    Time is simulated: each epoch takes as long as it did in the recording. A replay takes seconds.
    """
    from analysis.results.hypervolume_trace import traces_picture, traces_table
    from search.decisions.budget import Budget
    from search.decisions.samplers import SAMPLERS
    from search.decisions.stopping_rules import STOPPING_RULES, EarlyStoppingSettings
    from search.simulation.simulator import SimulationSettings, simulate, traces_of
    from search.simulation.tabular_benchmark import read_benchmark
    from search.storage.fetched_run import fetch_run
    from spaces.errors import UserError

    samplers = _known(sampler or ["tpe"], SAMPLERS, "--sampler")
    stoppings = _known(early_stopping or ["pareto", "none"], STOPPING_RULES, "--early-stopping")
    if reduction <= 1:
        raise UserError(f"--reduction: {reduction:g} is not above 1")
    recorded = read_benchmark(fetch_run(table))
    budget = Budget(trials=trials or 2 * len(recorded.trials))
    ways = [
        SimulationSettings(
            sampler=name,
            early_stopping=EarlyStoppingSettings(name=stopping, reduction=reduction)
            if stopping != "none"
            else EarlyStoppingSettings(name="none"),
            workers=workers,
            budget=budget,
        )
        for stopping, name in itertools.product(stoppings, samplers)
    ]
    screen = console()
    replays = {way.name: [] for way in ways}
    with Progress(console=screen, transient=True) as progress:
        task = progress.add_task("replaying", total=len(ways) * seeds)
        for way, seed in itertools.product(ways, range(seeds)):
            replays[way.name].append(simulate(recorded, replace(way, seed=seed)))
            progress.advance(task)
    if as_json:
        typer.echo(
            json.dumps({name: [asdict(one) for one in done] for name, done in replays.items()})
        )
        return
    traces = [traces_of(name, done) for name, done in replays.items()]
    of = f"{recorded.name}: {len(recorded.trials)} recorded trials, {workers} workers"
    shown = traces_table(traces, _SHARES)
    shown.title = f"{of}: simulated seconds to a share of the front's hypervolume"
    screen.print(shown)
    screen.print(
        f"median (quartiles) over {seeds} seed{'s' * (seeds > 1)}; budget {budget.trials} trials"
    )
    path = traces_picture(traces, picture or Path(f"{recorded.name}-replay.png"), title=of)
    screen.print(f"picture: {near(path)}", markup=False, soft_wrap=True)


def _known(names: list[str], table: Iterable[str], option: str) -> list[str]:
    from spaces.errors import UserError
    from spaces.yaml_files import one_of

    try:
        return list(dict.fromkeys(one_of(name, table) for name in names))
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None
