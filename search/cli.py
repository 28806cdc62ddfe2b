"""The `flopwise` command.

torch and Ray take seconds to import, so the commands import what they need when they are called.
"""

import codecs
import errno
import os
import sys
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from search.commands import (
    ablating,
    cluster,
    confirming,
    data,
    exported,
    looking,
    models,
    recipes,
    replaying,
    results,
    searching,
)
from search.commands.printing import error_console, short_lines

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="flopwise",
    help="Find image classifiers worth their FLOPs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        from search.storage.code_version import package_version

        typer.echo(f"flopwise {package_version('flopwise')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Find image classifiers worth their FLOPs."""


app.command("search")(searching.search)
app.command("attach")(cluster.attach)
app.command("nodes")(cluster.nodes)
app.command("status")(results.status)
app.command("front")(results.front)
app.command("watch")(looking.watch)
app.command("report")(looking.report)
app.command("compare")(looking.compare)
app.command("dashboard")(looking.dashboard)
app.command("export")(results.export)
app.command("confirm")(confirming.confirm)
app.command("ablate")(ablating.ablate)
app.command("predict")(exported.predict)
app.command("evaluate")(exported.evaluate)
app.command("train")(recipes.train)
app.command("cost")(recipes.cost)
app.command("replay")(replaying.replay)


def main() -> None:
    """Run the command line. A user's mistake prints its lines, without a traceback, and exits 2."""
    codecs.register_error("flopwise", _write_other_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="flopwise")
    wrong = _no_folder() or _foreign_spaces() or _empty_word()
    if wrong is not None:
        _complain([wrong])
        sys.exit(EXIT_USER_ERROR)
    from spaces.errors import UserError

    try:
        app()
    except UserError as error:
        _complain(short_lines(str(error)))
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        _complain(["interrupted"])
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `flopwise front RUN | head`
        sys.stderr.close()
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _complain(["no space is left for the output"])
        # Python would complain again when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_USER_ERROR)


def _complain(lines: list[str]) -> None:
    screen = error_console()
    for line in lines:
        screen.print(f"flopwise: {line}", soft_wrap=True)


def _write_other_characters(error: UnicodeError) -> tuple[str, int]:
    """Write what the output's encoding lacks: ? for a character, an escape for a byte of a name."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    escaped = (
        f"\\x{ord(one) - 0xDC00:02x}" if "\udc80" <= one <= "\udcff" else "?" for one in lacking
    )
    return "".join(escaped), error.end


def _no_folder() -> str | None:
    """The current folder has to exist: messages name paths from it, and Ray's processes use it."""
    try:
        Path.cwd()
    except OSError as error:
        return f"the current folder can't be used ({error.strerror}): change to another one"
    return None


def _empty_word() -> str | None:
    """An empty path would mean the current folder."""
    if "" in sys.argv[1:]:
        return "an argument is empty (''); is it a shell variable that is not set?"
    return None


def _foreign_spaces() -> str | None:
    """Hugging Face ships a package named `spaces` too. Say so before an import fails."""
    spec = find_spec("spaces")
    ours = Path(__file__).resolve().parent.parent / "spaces"
    found = Path(spec.origin).resolve().parent if spec and spec.origin else None
    if found == ours:
        return None
    return (
        f"the package `spaces` is {found}, not flopwise's {ours}: run flopwise in its own virtual"
        " environment (make install), or pip uninstall spaces"
    )


if __name__ == "__main__":
    main()
