"""`flopwise search`: run a study file, or continue it."""

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from search.commands.cluster import Cluster
from search.commands.printing import console, near, program

if TYPE_CHECKING:
    from analysis.runs import Run
    from search.study.study import Study


def search(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Override budget.trials.")] = None,
    hours: Annotated[float | None, typer.Option(help="Override budget.hours.")] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE", help="Fix or narrow a dimension, written as in a space file."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Override the study's seed.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an earlier run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Start no search; estimate it from short probes.")
    ] = False,
    cluster: Cluster = None,
) -> None:
    """Search for a study's Pareto front: accuracy, or another metric, against compute.

    Ctrl-C ends the search cleanly. --resume continues it, also after a crash.
    """
    from search.study.model_names import unknown_models
    from search.study.study import AUTO, load_study
    from spaces.errors import UserError
    from spaces.overrides import parse_fixes

    if dry_run and cluster is not None:
        raise UserError("--dry-run probes this machine, not the --cluster: leave one out")
    try:
        loaded = load_study(
            study,
            fixes=parse_fixes(fix or []),
            trials=trials,
            hours=hours,
            seed=seed,
            resume=resume and cluster is None,  # the head has the earlier run
        )
    except UserError as error:
        raise UserError("\n".join([str(error), *unknown_models(study)])) from None
    if dry_run:
        _tell_estimate(console(), loaded)
        return
    if cluster is not None:
        words = _options(trials=trials, hours=hours, fix=fix, seed=seed, resume=resume)
        _search_on(cluster, study, loaded, words)
        return
    notes = _check_early(loaded, resume=resume)
    screen = console()
    of = f" ({loaded.space.name})" if loaded.space.name != loaded.name else ""
    screen.print(f"{loaded.name}: searching{of} on {near(loaded.data)}", soft_wrap=True)
    for note in notes:
        screen.print(f"note: {note}", soft_wrap=True)
    from search.cluster.ray_session import ray_session
    from search.errors import BrokenOffError
    from search.storage.run_folder import is_over

    # Ray's processes start while torch is imported here. The probe of `auto` needs an idle machine.
    waits = loaded.resources == AUTO or (resume and is_over(loaded))
    early_ray = nullcontext() if waits else ray_session(loaded.trial_resources)
    try:
        with early_ray:
            from search.commands.live_table import LiveTable
            from search.engine import run_search

            with LiveTable(screen) as live:
                result = run_search(
                    loaded, resume=resume, show=live.show, tell=live.tell, announce=live.announce
                )
    except BrokenOffError as error:
        raise BrokenOffError(f"{error}; continue with: {_resume_command(study)}") from None
    except KeyboardInterrupt:  # the second Ctrl-C, or one before the search began
        if not loaded.folder.exists():
            screen.print("ended before the first trial")
            raise typer.Exit(130) from None
        _tell_resume(screen, study, "ended at once")
    else:
        _tell_end(screen, study, loaded.location, result)


def _check_early(study: "Study", *, resume: bool) -> list[str]:
    """Report what needs neither torch nor Ray before both start; returns notes on the study."""
    from search.storage.run_folder import check_run_folder
    from search.study.input_sizes import checked_recipes
    from search.study.measured_classes import check_classes, notes_on_classes
    from trainables.data.copying import open_near_data

    data = open_near_data(study.data, copy=study.copy_data)
    check_classes(study, data)
    checked_recipes(study, data)
    if study.address is None:
        check_run_folder(study, data, resume=resume)
    return [] if resume else notes_on_classes(study, data)


def _options(*, fix: list[str] | None, resume: bool, **values: float | None) -> list[str]:
    """The options as they were written, to give the same command to the head."""
    words = [f"--{name}={value}" for name, value in values.items() if value is not None]
    return [*words, *(f"--fix={line}" for line in fix or []), *(["--resume"] if resume else [])]


def _search_on(cluster: Path, file: Path, study: "Study", words: list[str]) -> None:
    from search.cluster.head import Head
    from search.cluster.submission import portable_study

    content, path = portable_study(file), f"studies/{study.name}.yaml"
    head = Head(cluster)
    head.send_code({path: content})
    head.ask("search.cluster.jobs", [path, *words])
    flopwise, on = program(), f"--cluster {shlex.quote(str(cluster))}"
    console().print(
        f"{study.name}: now runs on the cluster, also when this machine is off; next:\n"
        f"  {flopwise} attach {study.name} {on}\n"
        f"  {flopwise} status {shlex.quote(str(study.location))} {on}\n"
        f"  {flopwise} nodes {on}",
        soft_wrap=True,
    )


def _tell_estimate(screen: Console, study: "Study") -> None:
    from search.planning.dry_run import estimate_study
    from search.planning.estimate import estimate_table

    with screen.status("probing") as status:
        estimate = estimate_study(study, tell=status.update)
    screen.print(estimate_table(estimate))


def _tell_resume(screen: Console, study: Path, how: str) -> NoReturn:
    screen.print(f"{how}; continue with: {_resume_command(study)}", soft_wrap=True)
    raise typer.Exit(130)


def _resume_command(study: Path) -> str:
    from search.cluster.ray_session import joins_a_cluster

    if joins_a_cluster():
        return "flopwise search STUDY --cluster CLUSTER --resume"
    return f"{program()} search {shlex.quote(str(study))} --resume"


def _tell_spending(screen: Console, run: "Run") -> None:
    from analysis.results.spending import run_spending, spending_notes, write_hours, write_money

    spending = run_spending(run)
    took = [words for words in (write_hours(spending), write_money(spending)) if words]
    lines = [f"trials took {': '.join(took)}"] if took else []
    for line in [*lines, *spending_notes(spending)]:
        screen.print(line, soft_wrap=True)


def _tell_end(screen: Console, study: Path, location: Path | str, result) -> None:
    from analysis.runs import read_run
    from search.commands.live_table import clock
    from search.commands.results import print_front
    from search.engine import ENDINGS
    from spaces.errors import UserError

    read = read_run(result.folder)
    errors = [record.error for record in result.ledger.records.values() if record.error]
    flopwise, run = program(), shlex.quote(near(location))
    if result.ledger.front():
        try:
            print_front(screen, read)
        except UserError as error:  # the search is whole without its picture
            screen.print(f"no picture: {error}", soft_wrap=True)
    _tell_spending(screen, read)
    if result.ending == "interrupted":
        _tell_resume(screen, study, f"interrupted after {clock(result.seconds)}")
    if not result.ledger.front():
        first = f"; the first: {errors[0]}" if errors else ""
        how = read.counts_in_words() or "none was proposed"
        broken = read.broken_constraints()
        if broken:
            screen.print(f"no trial on the front: {broken}", soft_wrap=True)
            raise typer.Exit(1)
        screen.print(f"no trial ran to its end: {how}{first}", soft_wrap=True)
        raise typer.Exit(1)
    if result.ending != "trials":
        screen.print(ENDINGS[result.ending])
    screen.print(
        f"searched for {clock(result.seconds)}; results: {near(location)}; next:\n"
        f"  {flopwise} report {run}\n"
        f"  {flopwise} export {run} --pick knee",
        soft_wrap=True,
    )
