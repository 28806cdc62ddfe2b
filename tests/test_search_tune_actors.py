import pytest
from ray import exceptions
from ray.exceptions import RayActorError, RayTaskError

from search.cluster.worker_failures import is_worker_death
from search.execution.tune_actors import as_actor_error


@pytest.mark.parametrize(
    "error",
    [
        exceptions.OutOfMemoryError("the node running low on memory"),
        exceptions.OutOfDiskError("full"),
        exceptions.WorkerCrashedError(),
        exceptions.NodeDiedError("gone"),
        exceptions.RaySystemError("broken"),
    ],
)
def test_every_error_of_ray_itself_is_the_death_of_a_trials_process(error: Exception):
    told = as_actor_error(error)
    assert isinstance(told, RayActorError)
    assert type(error).__name__ in str(told)
    assert is_worker_death(str(told))


def test_errors_that_tune_knows_stay():
    for error in (
        RayActorError(),
        exceptions.ActorDiedError(),
        RayTaskError("step", "Traceback", ValueError("no")),
        ValueError("no"),
    ):
        assert as_actor_error(error) is error
