"""Printing for all commands: the console, short paths, JSON, progress bars."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def console() -> Console:
    """Standard output: as wide as the terminal, 120 columns where there is none."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def near(path: Path | str) -> str:
    """Shorten a path that lies below the current folder; other paths and addresses stay."""
    if isinstance(path, str):
        return path
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def program() -> str:
    """The words that call this program here: `flopwise`, where the shell finds that."""
    if shutil.which("flopwise"):
        return "flopwise"
    called = Path(sys.argv[0])
    # The head of a cluster has the code, but no installed command.
    return "python -m search.cli" if called.name == "cli.py" else near(called)


def print_json(content: Any) -> None:
    """Print plain data for programs."""
    sys.stdout.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar in a terminal. Yields a function that takes done and total."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
