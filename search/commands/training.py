"""Shared by the commands that train a list of recipes: their screen, and what Ctrl-C does."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from search.commands.printing import error_console, progress_bar

if TYPE_CHECKING:
    from search.commands.live_table import LiveTable
    from search.engine import Progress

Retry = Annotated[bool, typer.Option("--retry", help="Train failed trials again.")]


class TrainingScreen:
    """Shows a search's table while trials train, then a bar while their models are evaluated."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._shown = ""
        self._live: LiveTable | None = None
        self._count: Callable[[int, int | None], None] | None = None
        self._stack = ExitStack()
        if screen.is_terminal:
            self._stack.enter_context(screen.status("reading earlier results, starting Ray ..."))

    def show(self, progress: "Progress") -> None:
        """Show how far a list has come; called by `run_search`."""
        # Imported late: Ray and torch are not needed where every result exists already.
        from search.commands.live_table import LiveTable

        if self._live is None or self._shown != progress.study.name:
            self.close()
            self._live = self._stack.enter_context(LiveTable(self._screen))
            self._shown = progress.study.name
        self._live.show(progress)

    def count(self, done: int, total: int | None) -> None:
        """Show how many models were evaluated on the test split."""
        if self._count is None:
            self.close()
            self._count = self._stack.enter_context(progress_bar("testing"))
        self._count(done, total)

    def close(self) -> None:
        self._stack.close()
        self._live = self._count = None


@contextmanager
def training_screen(screen: Console) -> Iterator[TrainingScreen]:
    """Yield a screen. On Ctrl-C, say how to go on, and end the command with exit code 130."""
    from search.errors import BrokenOffError

    shown = TrainingScreen(screen)
    try:
        yield shown
    except BrokenOffError as error:
        raise BrokenOffError(f"{error}; run the same command to continue") from None
    except KeyboardInterrupt:
        shown.close()
        error_console().print("interrupted; run the same command to continue")
        raise typer.Exit(130) from None
    finally:
        shown.close()
