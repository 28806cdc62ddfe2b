"""The Ray that trials run on: the one that this process is connected to, or one begun for them."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

from search.study import Resources
from spaces.errors import UserError

_log = logging.getLogger("flopwise")
_RAY_SETTINGS = {
    # Ray's own tables, loggers and snapshots: ours take their place, and they cost time a trial.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # By default a driver hangs for a minute after the death of Ray's GCS server.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
# What a trial's process imports before its first trial: most of the time until then.
_HEAVY_MODULES = "torch,torch._dynamo,torchvision,ray.tune"


@contextmanager
def ray_session(resources: Resources) -> Iterator[None]:
    """Have a Ray to run trials of these resources on; one that was begun here ends here.

    Begun before torch is imported, its processes start meanwhile.
    """
    settings = dict(_RAY_SETTINGS)
    # Ray starts a process for each core ahead of any work. Where trials will want about as many,
    # these may import ahead too; else their memory would be wasted.
    if resources.cpus <= 2 and not resources.gpus:
        settings["RAY_preload_python_modules"] = _HEAVY_MODULES
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    # Failed trials are in our table, and Ray's own result files, which it misses, are switched off.
    tune_log = logging.getLogger("ray.tune")
    level = tune_log.level
    tune_log.setLevel(logging.CRITICAL)
    begun_here = not ray.is_initialized()
    try:
        if begun_here:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        yield
    finally:
        if begun_here:
            ray.shutdown()
        tune_log.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


def workers_at_most(
    resources: Resources, available: Mapping[str, float], *, keep_a_core: bool = False
) -> int:
    """How many trials run at once. Raises UserError where not even one fits.

    keep_a_core: for the driver to measure on, where there is more than one trial's.
    """
    if available.get("GPU") and not resources.gpus:
        _log.warning(
            "this machine has %g GPU, and the study uses none: see resources.gpus", available["GPU"]
        )
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus}
    for kind, amount in wanted.items():
        if amount > available.get(kind, 0):
            raise UserError(
                f"resources.{kind.lower()}s: a trial takes {amount:g}, and there are"
                f" {available.get(kind, 0):g}"
            )
    by_cpus = max(1, int((available["CPU"] - keep_a_core) / wanted["CPU"]))
    if not wanted["GPU"]:
        return by_cpus
    # A part of a GPU is a part of one and the same GPU.
    if wanted["GPU"] < 1:
        by_gpus = int(available["GPU"]) * int(1 / wanted["GPU"] + 1e-9)
    else:
        by_gpus = int(available["GPU"] / wanted["GPU"])
    return min(by_cpus, by_gpus)
