"""The Ray Tune trainable: one warm actor trains recipe after recipe. Only this file uses Ray."""

import ctypes
import gc
import platform
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.exceptions import RayError
from ray.experimental import internal_kv
from ray.tune.result import DONE, SHOULD_CHECKPOINT

from spaces.errors import UserError
from spaces.recipe import recipe_from
from trainables.data.copying import open_near_data
from trainables.data.dataset import ImageData
from trainables.inputs.device_cache import forget_images
from trainables.learning.checkpoint import (
    CHECKPOINT_FILE,
    decode_checkpoint,
    encode_checkpoint,
)
from trainables.system.addresses import NOT_REACHED, read_file
from trainables.system.failures import describe_failure, is_out_of_memory
from trainables.system.gpus import (
    UnusableGpuError,
    as_device,
    check_device,
    device_name,
    limit_gpu_memory,
)
from trainables.system.host_memory import give_back_memory, keep_freed_memory
from trainables.system.phases import TRAINING, listen_to_phases, tell_phase
from trainables.training import Training

# The driver reads these keys of a result.
EPOCHS = "epochs"
FAILURE = "failure"
NODE = "node"
RAN_ON = "ran_on"
# Where the driver reads what a trial does while it ends no epoch; see `phase_key`.
PHASES = b"flopwise-phases"
# A trial saves itself after its last epoch. Before that, saving may take a twentieth of its time,
# at most once in this period. So an interruption loses little.
_MIN_CHECKPOINT_PERIOD_SECONDS = 2.0
_MAX_CHECKPOINT_SHARE = 0.05
_LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1  # prctl(2)
_NODE_LABEL = "ray.io/node-id"  # Ray gives every node this one


class Trial(tune.Trainable):
    """Runs one epoch a step.

    Its config: number, recipe, data, copy_data (see open_near_data), device, threads, gpu_share (0
    to 1, or whole GPUs), deepest_unfrozen and recalls (see Training), resume_from, pause_after (the
    epoch after which the driver had decided to pause it, or None), and avoid: Ray's ids of nodes.

    If a recipe fails, its trial ends with the reason in the result, and the actor stays warm for
    the next one. The actor dies only if an error leaves the GPU unusable.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """The resources that Ray gives the trial, and the nodes to avoid."""
        bundle = {"CPU": config["threads"], "GPU": config["gpu_share"]}
        if not config["avoid"]:
            return tune.PlacementGroupFactory([bundle])
        elsewhere = {_NODE_LABEL: f"!in({','.join(config['avoid'])})"}
        return tune.PlacementGroupFactory([bundle], bundle_label_selector=[elsewhere])

    def setup(self, config: dict[str, Any]) -> None:
        _end_with_the_parent()
        keep_freed_memory()
        listen_to_phases(self._tell_phase)
        self._data: ImageData | None = None
        self._data_from = ""
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = config
        self._phase = TRAINING
        # Free the last recipe's model before building the next one, so others have the memory too.
        self._training: Training | None = None
        gc.collect()  # models with fake quantisation are cycles of references
        give_back_memory()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        self._saved = time.monotonic()
        self._save_seconds = 0.0
        torch.set_num_threads(config["threads"])
        self._device = as_device(config["device"])
        self._where = _where(self._device)

    def step(self) -> dict[str, Any]:
        try:
            epochs = self._run_epoch()
        except Exception as error:
            if _breaks_the_process(error):
                raise
            self._training = None
            return {EPOCHS: [], FAILURE: describe_failure(error), DONE: True, **self._where}
        done = self._training is not None and self._training.done
        period = max(_MIN_CHECKPOINT_PERIOD_SECONDS, self._save_seconds / _MAX_CHECKPOINT_SHARE)
        due = time.monotonic() - self._saved > period
        result = {EPOCHS: epochs, FAILURE: None, DONE: done, SHOULD_CHECKPOINT: done or due}
        return result | self._where

    def _run_epoch(self) -> list[dict[str, Any]]:
        """Run the next epoch; returns all epochs that the driver may not know yet."""
        if self._training is not None:
            return [self._training.run_epoch().to_dict()]
        config = self._config
        if self._data is None or self._data_from != config["data"]:
            tell_phase("reading data")
            self._data = open_near_data(config["data"], copy=config["copy_data"])
            self._data_from = config["data"]
            if self._data.digest != config.get("data_digest", self._data.digest):
                self._data = None
                raise UserError(f"{config['data']}: was changed since the search began")
        check_device(self._device)
        limit_gpu_memory(config["gpu_share"], self._device)
        self._training = self._begin_training(self._data)
        return [metrics.to_dict() for metrics in self._training.history]

    def _tell_phase(self, name: str) -> None:
        number = self._config.get("number")
        if name == self._phase or number is None or not ray.is_initialized():
            return
        self._phase = name
        key = phase_key(ray.get_runtime_context().get_job_id(), number)
        with suppress(RayError, RuntimeError):  # it is shown only
            internal_kv._internal_kv_put(key, name.encode(), overwrite=True, namespace=PHASES)

    def _begin_training(self, data: ImageData) -> Training:
        """Train the trial's first epoch in this process, unless it only has to be paused."""
        try:
            return self._first_epoch(data)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Try again without inputs on the GPU, which may have been too much. Do it outside of the
        # error's handler, which would hold the memory of the failed attempt.
        forget_images()
        torch.cuda.empty_cache()
        return self._first_epoch(data, room_bytes=0)

    def _first_epoch(self, data: ImageData, *, room_bytes: int | None = None) -> Training:
        training = Training(
            recipe_from(self._config["recipe"]),
            data,
            device=self._device,
            deepest_unfrozen=self._config["deepest_unfrozen"],
            room_bytes=room_bytes,
            recalls=self._config["recalls"],
        )
        for folder in self._config["resume_from"]:
            if _load(training, folder):
                break
        if not training.done and len(training.history) != self._config["pause_after"]:
            training.run_epoch()
        return training

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        assert self._training is not None
        # Encode it first: torch's own writer does not report a full disk.
        content = encode_checkpoint(self._training.state_dict())
        (Path(checkpoint_dir) / CHECKPOINT_FILE).write_bytes(content)

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Save as Ray does, and measure the time. Ray copies the files to the run's storage."""
        started = time.monotonic()
        saved = super().save(checkpoint_dir)
        self._saved = time.monotonic()
        self._save_seconds = self._saved - started
        return saved

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Continue after Ray moved a trial. We ourselves use config["resume_from"]."""
        self._config = {**self._config, "resume_from": [str(checkpoint)]}
        self._training = None


def phase_key(job: str, number: int) -> bytes:
    """The key of a trial's phase. job: Ray's id of the driver, of which a cluster has several."""
    return f"{job}-{number}".encode()


def _load(training: Training, folder: str) -> bool:
    """Continue from a checkpoint if it is complete. After a crash it may not be.

    folder: a folder or an address.
    """
    try:
        # load_state_dict moves what belongs on the GPU; the optimiser's step counts do not.
        state = decode_checkpoint(read_file(folder, CHECKPOINT_FILE))
        training.load_state_dict(state)
    except (*NOT_REACHED, ValueError):
        return False
    return True


def _end_with_the_parent() -> None:
    """Let the system end this process when its parent, Ray's raylet, is gone.

    Otherwise it would outlive a killed raylet and keep all of its memory.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _where(device: torch.device) -> dict[str, str]:
    """Ray's id of this node, and its name in the run folder."""
    if not ray.is_initialized():
        return {NODE: "", RAN_ON: ""}
    address = ray.util.get_node_ip_address()
    if address == _LOOPBACK:  # this machine's own Ray
        address = platform.node()
    machine = f"{address} ({device_name(device)})"
    return {NODE: ray.get_runtime_context().get_node_id(), RAN_ON: machine}


def _breaks_the_process(error: Exception) -> bool:
    """Whether every later call on the GPU fails too: after any CUDA error except out of memory.

    The driver then blames the machine for the death, and runs the trial on another one.
    """
    broken = isinstance(error, torch.AcceleratorError | UnusableGpuError)
    return broken and not is_out_of_memory(error)
