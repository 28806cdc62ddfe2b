"""The Ray Tune trainable: one warm actor trains recipe after recipe. The one file here with Ray."""

import pickle
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.result import DONE, SHOULD_CHECKPOINT

from spaces.errors import UserError
from spaces.recipe import recipe_from
from trainables.images import ImageData, open_data
from trainables.training import Training, TrainingFailedError

CHECKPOINT_FILE = "training.pt"
# The driver reads these keys of a result.
EPOCHS = "epochs"
FAILURE = "failure"
# An interrupted trial loses at most about this much work; its last epoch is always kept.
CHECKPOINT_PERIOD_SECONDS = 30.0


class Trial(tune.Trainable):
    """Runs one epoch a step. Its config: recipe, data, device, threads, resume_from.

    A recipe that fails ends its trial with the reason in the result, so that the actor stays warm
    for the next; only an error that leaves the GPU unusable takes the actor down with it.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._data: ImageData | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._config = config
        # The last recipe's model goes before the next one's comes.
        self._training: Training | None = None
        self._checkpointed = time.monotonic()
        torch.set_num_threads(config["threads"])

    def step(self) -> dict[str, Any]:
        try:
            epochs = self._run_epoch()
        except Exception as error:
            if _breaks_the_process(error):
                raise
            self._training = None
            return {EPOCHS: [], FAILURE: describe_failure(error), DONE: True}
        done = self._training is not None and self._training.done
        due = time.monotonic() - self._checkpointed > CHECKPOINT_PERIOD_SECONDS
        return {EPOCHS: epochs, FAILURE: None, DONE: done, SHOULD_CHECKPOINT: done or due}

    def _run_epoch(self) -> list[dict[str, Any]]:
        """Run the next epoch; returns every epoch that the driver may not know of yet."""
        if self._training is not None:
            return [asdict(self._training.run_epoch())]
        config = self._config
        if self._data is None or str(self._data.path) != config["data"]:
            self._data = open_data(Path(config["data"]))
        device = torch.device(config["device"])
        training = Training(recipe_from(config["recipe"]), self._data, device=device)
        for folder in config["resume_from"]:
            if _load(training, Path(folder) / CHECKPOINT_FILE):
                break
        if not training.done:
            training.run_epoch()
        self._training = training
        return [asdict(metrics) for metrics in training.history]

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        assert self._training is not None
        torch.save(self._training.state_dict(), Path(checkpoint_dir) / CHECKPOINT_FILE)
        self._checkpointed = time.monotonic()

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Ray's way of going on after it moved a trial; ours is config["resume_from"]."""
        self._config = {**self._config, "resume_from": [str(checkpoint)]}
        self._training = None


def _load(training: Training, file: Path) -> bool:
    """Go on from a checkpoint, if it is whole: one is not that was being written in a crash."""
    try:
        state = torch.load(file, map_location=training.device, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        return False
    training.load_state_dict(state)
    return True


def describe_failure(error: BaseException) -> str:
    """One line for the run's table: what went wrong, and where when it is not the user's error."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: {text}"
    if "can't allocate memory" in text:  # torch's CPU allocator raises a bare RuntimeError
        return f"out of memory: {text}"
    if isinstance(error, UserError | TrainingFailedError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"


def _breaks_the_process(error: Exception) -> bool:
    """After a CUDA error other than memory, every later call on that GPU fails too."""
    return isinstance(error, torch.AcceleratorError) and not isinstance(
        error, torch.OutOfMemoryError
    )
