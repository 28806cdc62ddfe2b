"""The Ray that trials run on: this process's own, a running cluster's, or one begun for them."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import AuthenticationError

from search.study.study import Resources
from spaces.errors import UserError

_RAY_SETTINGS = {
    # Ray's own tables, loggers and snapshots: ours take their place, and they cost time a trial.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # What a trial could not save is told in our words; Ray adds a traceback where nobody asked.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    # By default a driver hangs for a minute after the death of Ray's GCS server.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    # Ray gives its processes 30 s to start: too little where the machine has much else to do.
    "RAY_gcs_server_port_wait_time_s": "60",
    "RAY_raylet_start_wait_time_s": "60",
    # By default Ray ends processes that are idle for a second while no core is free. Trials get
    # their cores a moment before their processes: those that wait for them would often be ended
    # then, and others begun, which have to import everything anew.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
# What a trial's process imports before its first trial: most of the time until then.
_HEAVY_MODULES = "torch,torch._dynamo,torchvision,ray.tune,trainables.trial"


@contextmanager
def ray_session(resources: Resources) -> Iterator[None]:
    """Have a Ray to run trials of these resources on; one that was begun here ends here.

    Where RAY_ADDRESS names a running cluster, as it does for jobs of one, that is joined. Begun
    before torch is imported, its processes start meanwhile. Raises UserError where it can't be
    joined, or does not start.
    """
    settings = dict(_RAY_SETTINGS)
    # Ray starts a process for each core ahead of any work. Where trials will want about as many,
    # these may import ahead too; else their memory would be wasted.
    if resources.cpus <= 2 and not resources.gpus:
        settings["RAY_preload_python_modules"] = _HEAVY_MODULES
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    # Failed trials are in our table, and Ray's own result files, which it misses, are switched off.
    # So are addresses that it can't reach any more.
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
    except Exception as error:  # a bare one is what Ray raises where a process takes too long
        reason = " ".join(str(error).split())
        raise UserError(
            f"Ray did not start on this machine: {reason} (its logs: /tmp/ray/session_latest/logs);"
            " try again when the machine has less to do"
        ) from None


def joins_a_cluster() -> bool:
    """Whether a running cluster is to be joined rather than a Ray begun for this process."""
    return bool(os.environ.get("RAY_ADDRESS"))


def join_cluster() -> None:
    """Connect to the Ray of RAY_ADDRESS, or to the one that runs on this machine.

    Raises UserError where there is none, or it does not let us in.
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
