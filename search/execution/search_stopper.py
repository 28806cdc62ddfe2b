"""What ends a whole search before its budget: a wish, a file that can't be written, a dead Ray.

What runs is left to be resumed, and nothing more is told: a line of Optuna's journal that comes
after one that was cut off would spoil both.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import ray
from ray.tune.stopper import Stopper

from search.errors import BrokenOffError
from spaces.errors import UserError

# A search has no part in the death of these, and can't go on without them.
_NEEDED = ("raylet", "gcs_server")


class SearchStopper(Stopper):
    """Ends the whole search, its running trials left to be resumed: asked to, or broken off."""

    def __init__(self) -> None:
        self.requested = False
        self.error: BrokenOffError | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.requested or self.error is not None

    def break_off(self, reason: str) -> None:
        """Stop for a reason; the first one counts."""
        self.error = self.error or BrokenOffError(reason)

    def check_ray(self) -> None:
        """Break off where one of Ray's processes that this process began is dead."""
        # Private, but what `ray start --block` watches. Empty where a Ray was joined.
        node = ray._private.worker._global_node  # pyright: ignore[reportAttributeAccessIssue, reportPrivateImportUsage]
        for name, _ in node.dead_processes() if node else ():
            if name in _NEEDED:
                self.break_off(f"Ray's {name} died")


def unless_broken_off(method: Callable[..., Any]) -> Callable[..., Any]:
    """Have a method do nothing once the search is broken off; what it can't write breaks it off.

    The method's object has the search's stopper as `_stopper`. Ray would swallow what a callback
    raises, or take it for the failure of a trial.
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
