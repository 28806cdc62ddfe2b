"""The Ray that trials run on: this process's, a running cluster's, or a new one."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import AuthenticationError

from search.study.study import Resources
from spaces.errors import UserError

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
    begun_here = not ray.is_initialized()
    try:
        if begun_here and joins_a_cluster():
            join_cluster()
        elif begun_here:
            _start()
        yield
    finally:
        if begun_here:
            ray.shutdown()
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


def _start() -> None:
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises a bare one if a process takes too long
        reason = " ".join(str(error).split())
        raise UserError(
            f"Ray did not start on this machine: {reason} (its logs: /tmp/ray/session_latest/logs);"
            " try again when the machine is less busy"
        ) from None


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
        )
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"can't join the cluster's Ray: {reason}") from None
