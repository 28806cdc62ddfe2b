"""Has Ray Tune take every way in which a trial's process can end as the end of that trial.

Tune knows two errors: the actor's, and that of a task in it. All others end the whole search, among
them OutOfMemoryError, which Ray raises after its memory monitor has killed workers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller


class _Actors(RayActorManager):
    """Tune's actors. Methods of theirs are private, but nothing else sees these errors."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, as_actor_error(exception))

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, as_actor_error(exception))


def as_actor_error(exception: Exception) -> Exception:
    """An error of Ray itself as the death of the actor in which it happened."""
    if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
        return RayActorError(error_msg=f"The actor died: {type(exception).__name__}: {exception}")
    return exception


@contextmanager
def deaths_end_trials_only() -> Iterator[None]:
    """Have each Tuner that runs in this block survive the deaths of its trials' processes."""
    controller: Any = tune_controller
    before = controller.RayActorManager
    controller.RayActorManager = _Actors
    try:
        yield
    finally:
        controller.RayActorManager = before
