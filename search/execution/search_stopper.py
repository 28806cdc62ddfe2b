"""What ends a whole search before its budget: a request, a file that can't be written, a dead Ray.

Running trials can be resumed. Nothing more is told to Optuna: if a line of its journal was cut off,
another line after it would spoil both.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import ray
from ray.tune.stopper import Stopper

from search.errors import BrokenOffError
from spaces.errors import UserError

# A search can't go on without these processes, and is not the cause if they die.
_NEEDED = ("raylet", "gcs_server")


class SearchStopper(Stopper):
    """Ends the whole search, by request or by an error. Its running trials can be resumed."""

    def __init__(self) -> None:
        self.requested = False
        self.error: BrokenOffError | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.requested or self.error is not None

    def break_off(self, reason: str) -> None:
        """Stop because of an error. The first reason counts."""
        self.error = self.error or BrokenOffError(reason)

    def check_ray(self) -> None:
        """Break off if one of the Ray processes that this process began is dead."""
        # Private, but `ray start --block` watches it too. It lists nothing if a Ray was joined.
        node = ray._private.worker._global_node  # pyright: ignore[reportAttributeAccessIssue, reportPrivateImportUsage]
        for name, _ in node.dead_processes() if node else ():
            if name in _NEEDED:
                self.break_off(f"Ray's {name} died")


def unless_broken_off(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method do nothing once the search is broken off. A failed write breaks it off.

    The method's object must have the search's stopper as `_stopper`. Otherwise Ray would swallow
    what a callback raises, or count it as the failure of a trial.
    """

    @wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._stopper.error is not None:
            return None
        try:
            return method(self, *args, **kwargs)
        except UserError as error:
            self._stopper.break_off(str(error))
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            self._stopper.break_off(f"can't write{where}: {error.strerror or error}")

    return guarded


@contextmanager
def interruption(stopper: SearchStopper) -> Iterator[None]:
    """Turn the first Ctrl-C (or SIGTERM) into a clean end; the second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(_signal: int, _frame: Any) -> None:
        stopper.requested = True
        restore()

    for number in before:
        signal.signal(number, request)
    try:
        yield
    finally:
        restore()
