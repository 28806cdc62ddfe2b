"""Printing for all commands: the console, short paths, JSON, progress bars."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment

_MOST_LINES = 20
_LONGEST_LINE = 600
# Tabs and line feeds are no harm.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

# Names may hold [brackets] and :colons:, which mean something to rich.
_AS_WRITTEN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class _Console(Console):
    """A console that writes control characters as escapes, such as ESC[31m.

    Names of classes, files and parameters may hold sequences that would change the terminal.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text
            if not segment.control and _CONTROL.search(text):
                text = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
                segment = Segment(text, segment.style)
            yield segment


def console() -> Console:
    """Standard output: as wide as the terminal, 120 columns where there is none."""
    width = None if sys.stdout.isatty() else 120
    return _Console(width=width, **_AS_WRITTEN)


def error_console() -> Console:
    """Standard error."""
    return _Console(stderr=True, **_AS_WRITTEN)


def short_lines(message: str) -> list[str]:
    """The lines of an error message, bounded: the first ones, and the last, which has the way out.

    A line that is too long loses its middle. Passwords in addresses become ***.
    """
    from spaces.addresses import without_secrets  # late: `spaces` may be another package

    lines = without_secrets(message).split("\n")
    if len(lines) > _MOST_LINES:
        left_out = len(lines) - _MOST_LINES
        lines = [*lines[: _MOST_LINES - 1], f"... {left_out:,} more lines", lines[-1]]
    return [
        f"{line[: _LONGEST_LINE - 200]} ... {line[-195:]}" if len(line) > _LONGEST_LINE else line
        for line in lines
    ]


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
    screen = error_console()
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
