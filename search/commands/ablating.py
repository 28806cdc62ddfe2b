"""`flopwise ablate`: what each difference between a trial and a starting point is worth."""

from typing import Annotated, Literal

import typer

from search.commands.printing import AsJson, console, error_console, near, print_json
from search.commands.results import RunArgument
from search.commands.training import Retry, training_screen


def ablate(
    run: RunArgument,
    trial: Annotated[
        str, typer.Option(help="A trial's number, or a rule as in export: knee, most-accurate, ...")
    ],
    against: Annotated[
        Literal["ladder", "default"],
        typer.Option(help="The starting point: the ladder's first recipe, or all defaults."),
    ],
    seeds: Annotated[int, typer.Option(help="Seeds for each recipe, 2 or more.")] = 3,
    retry: Retry = False,
    as_json: AsJson = False,
) -> None:
    """Measure what each difference between a trial and a starting point is worth.

    Turns the differences on one after the other, then off one at a time, and trains each recipe
    with several seeds and the trial's epochs. After an interruption, run the same command to
    continue.
    """
    from analysis.plots.ablation_picture import ablation_picture
    from analysis.results.ablation import ablation_records
    from analysis.results.ablation_table import ablation_table
    from search.followups.ablate import ABLATE_FOLDER, ablation_name
    from search.followups.ablate import ablate as ablate_trial
    from search.storage.fetched_run import adding_to

    screen = error_console() if as_json else console()
    with adding_to(run, ABLATE_FOLDER) as folder, training_screen(screen) as shown:
        ablation = ablate_trial(folder, trial, against, seeds=seeds, retry=retry, show=shown.show)
        name = ablation_name(ablation.trial, against)
        path = ablation_picture(ablation, folder / ABLATE_FOLDER / f"{name}.png")
    if as_json:
        print_json({**ablation_records(ablation), "picture": str(path)})
        return
    screen.print(ablation_table(ablation, width=screen.width))
    screen.print(f"picture: {near(path)}", soft_wrap=True)
