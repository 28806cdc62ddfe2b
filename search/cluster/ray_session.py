"""The Ray that trials run on: this process's, a running cluster's, or a new one."""

import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import ray
from ray import _raylet
from ray._private import ray_constants
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.exceptions import AuthenticationError
from ray.job_config import JobConfig

from search.cluster.ray_folder import RayNotStartedError, ray_folder
from search.storage.code_version import ROOT
from search.study.study import Resources
from spaces.errors import UserError
from trainables.system.cores import num_cores

_RAY_SETTINGS = {
    # Switch off Ray's tables, loggers and snapshots: we have ours, and they take time a trial.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # We report what a trial could not save. Ray would print a traceback too.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    # By default a driver hangs for a minute after Ray's GCS server dies.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    # Ray gives its processes 30 s to start, which is too short on a busy machine.
    "RAY_gcs_server_port_wait_time_s": "60",
    "RAY_raylet_start_wait_time_s": "60",
    # By default, if no core is free, Ray ends processes that are idle for a second. A trial gets
    # its cores a moment before its process. Ray would often end that process in between, and the
    # new one would import everything again.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # By default Ray's workers give way to every other program, and wait for hours beside one that
    # uses all cores. This way they have the priority of the command: see `nice`.
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
# A trial's process imports these before its first trial. That takes most of its start.
_HEAVY_MODULES = "torch,torch._dynamo,torchvision,ray.tune,trainables.trial"


@contextmanager
def ray_session(resources: Resources) -> Iterator[None]:
    """Have a Ray to run trials of these resources. A Ray that begins here ends here.

    If RAY_ADDRESS names a running cluster, as in a cluster's jobs, joins that. Begin it before
    torch is imported, so that both start at the same time. Raises UserError if Ray can't be joined
    or does not start.
    """
    settings = dict(_RAY_SETTINGS)
    # Ray starts a process for each core ahead of any work. If trials will need about that many,
    # let the processes import ahead too. Otherwise that would waste memory.
    if resources.cpus <= 2 and not resources.gpus:
        settings["RAY_preload_python_modules"] = _HEAVY_MODULES
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    # Silence Ray's complaints. Failed trials are in our table, and we report addresses that can't
    # be reached. Ray's result files are missing because they are switched off.
    logs = [logging.getLogger(name) for name in ("ray.tune", "ray.train")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        with ExitStack() as stack:
            if not ray.is_initialized():
                if not joins_a_cluster():
                    stack.enter_context(_local_ray())
                else:
                    stack.callback(ray.shutdown)
                    join_cluster()
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _local_ray() -> Iterator[None]:
    """Start a Ray that only this process can reach: on loopback, with a token of its own."""
    with ExitStack() as stack:
        folder = stack.enter_context(ray_folder())
        stack.callback(ray.shutdown)
        try:
            with _only_for_us():
                ray.init(
                    address="local",
                    num_cpus=num_cores(),  # Ray does not ask for affinity and quotas
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(folder),
                    **_without_current_folder(),
                )
        except Exception as error:  # Ray raises a bare one if a process takes too long
            reason = " ".join(str(error).split())
            raise RayNotStartedError(
                f"Ray did not start on this machine: {reason} (its logs:"
                f" {folder}/session_latest/logs); try again when the machine is less busy"
            ) from None
        yield


@contextmanager
def _only_for_us() -> Iterator[None]:
    """Have a Ray that starts in this block listen on loopback, and ask everybody for a token."""
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Its processes take the loopback address for this machine's, as on Windows and macOS.
        ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0",
    }
    before = {name: os.environ.get(name) for name in settings}
    constant = ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(settings)
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        # Ray has read these variables when it was imported.
        core: Any = _raylet  # compiled, without types
        core.Config.initialize("")
        core.AuthenticationTokenLoader.instance().reset_cache()
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        _restore(before)


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class _OwnCode(JobConfig):
    """Has workers import from our folder, and not from the current one, which is Ray's default.

    Whoever can write to the current folder could otherwise replace any package there.
    """

    def _serialize(self) -> str:
        # The packages of an installation are on every worker's path already.
        self._py_driver_sys_path = [] if ROOT.name == "site-packages" else [str(ROOT)]
        return super()._serialize()


def _without_current_folder() -> dict[str, Any]:
    """Arguments of ray.init. A job on a cluster has a folder of its own, which Ray manages."""
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False  # workers would start without our packages
    return {} if RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ else {"job_config": _OwnCode()}


def joins_a_cluster() -> bool:
    """Whether to join a running cluster, and not to start a Ray for this process."""
    return bool(os.environ.get("RAY_ADDRESS"))


def join_cluster() -> None:
    """Connect to the Ray of RAY_ADDRESS, or to the one that runs on this machine.

    Raises UserError if there is none, or if it refuses us.
    """
    try:
        ray.init(
            address=os.environ.get("RAY_ADDRESS") or "auto",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **_without_current_folder(),
        )
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"can't join the cluster's Ray: {reason}") from None
