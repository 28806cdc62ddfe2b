"""`flopwise confirm`: train a front's trials again with fresh seeds, and open the test split."""

from typing import Annotated

import typer

from search.commands.printing import AsJson, console, error_console, near, print_json
from search.commands.results import RunArgument
from search.commands.training import Retry, training_screen


def confirm(
    run: RunArgument,
    top: Annotated[
        int | None,
        typer.Option(help="Only this many trials, those that add most hypervolume. Default: all."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Fresh seeds for each trial, 2 or more.")] = 3,
    retry: Retry = False,
    as_json: AsJson = False,
) -> None:
    """Train the front's trials again, and evaluate them once on the test split.

    Shows how accurate they are, which are truly non-dominated, and how far the search's validation
    accuracy lies above the test accuracy. After an interruption, run the same command to continue.
    """
    from analysis.plots.confirmation_picture import confirmation_picture
    from analysis.results.confirmation import confirmation_records
    from analysis.results.confirmation_table import confirmation_sentences, confirmation_table
    from search.followups.confirm import CONFIRM_FOLDER
    from search.followups.confirm import confirm as confirm_front
    from search.storage.fetched_run import adding_to

    screen = error_console() if as_json else console()
    with adding_to(run, CONFIRM_FOLDER) as folder, training_screen(screen) as shown:
        confirmation = confirm_front(
            folder, top=top, seeds=seeds, retry=retry, show=shown.show, progress=shown.count
        )
        name = "front" if top is None else f"top-{top}"
        path = confirmation_picture(confirmation, folder / CONFIRM_FOLDER / f"{name}.png")
    if as_json:
        print_json({**confirmation_records(confirmation), "picture": str(path)})
        return
    screen.print(confirmation_table(confirmation))
    for sentence in confirmation_sentences(confirmation):
        screen.print(sentence, soft_wrap=True)
    screen.print(f"picture: {near(path)}", soft_wrap=True)
