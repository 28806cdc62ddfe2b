"""Studies and trainables for tests of whole searches: real trials, tiny ones."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ray import cloudpickle

from trainables.data.dataset import ImageData
from trainables.learning.metrics import EpochMetrics
from trainables.system.phases import tell_phase
from trainables.trial import Trial

if TYPE_CHECKING:
    from search.engine import SearchResult

# Workers don't have tests/ to import from.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
SPACE: dict[str, Any] = {
    "input_size": [48, 64],
    "width": [0.1, 0.125],
    "batch_norm": [False, True],
    "batch_size": [16, 32],
    "learning_rate": {"log": [1.0e-3, 1.0e-2]},
    "epochs": 1,
}
# On the tests' Ray, which has two CPUs: trial after trial, in one process.
ONE_WORKER = {"cpus": 2}


def write_study(folder: Path, data: ImageData, **changes: Any) -> Path:
    """A study file in folder, on data; changes replace its top-level lines."""
    content = {
        "name": "tiny",
        "data": {"path": str(data.path)},
        "space": SPACE,
        "budget": {"trials": 4},
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def once(happens: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Act as soon as something happens while a search in this process goes on."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if happens():
                act()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSearch:
    """A search that several tests look at; whoever changes it copies it."""

    result: "SearchResult"
    shown: tuple[int, ...]
    """The number of trials, each time that a listener was called."""

    @property
    def folder(self) -> Path:
        return self.result.folder

    def copy(self, to: Path) -> Path:
        """Copy its files to a folder; returns the study file there, whose search it is again."""
        shutil.copytree(self.folder.parents[1], to, dirs_exist_ok=True)
        return to / "study.yaml"


def metrics(epoch: int, accuracy: float, *, seconds: float = 0.5) -> EpochMetrics:
    """What an epoch came to, made up."""
    return EpochMetrics(
        epoch=epoch,
        train_loss=1.0,
        train_accuracy=accuracy,
        val_loss=1.0,
        accuracy=accuracy,
        learning_rate=0.1,
        seconds=seconds,
    )


class DyingTrial(Trial):
    """Batch size 16 kills the process, as the system does when memory runs out."""

    def _run_epoch(self) -> list[dict[str, Any]]:
        if self._config["recipe"]["batch_size"] == 16:
            os._exit(1)
        return super()._run_epoch()


class DyingInSave(Trial):
    """Its process dies in the first save of each trial."""

    def save(self, checkpoint_dir: str | None = None) -> Any:
        mark = Path(self._config["data"]).parent / f"died-{self._config['number']}"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return super().save(checkpoint_dir)


class WaitingTrial(Trial):
    """Computes frozen features until a file beside the data says that somebody has seen it."""

    def _run_epoch(self) -> list[dict[str, Any]]:
        seen = Path(self._config["data"]).parent / "seen"
        while not seen.exists():
            tell_phase("computing frozen features")
            time.sleep(0.05)
        return super()._run_epoch()


class HungryTrial(Trial):
    """Batch size 16 asks for more memory than any machine has."""

    def _run_epoch(self) -> list[dict[str, Any]]:
        if self._config["recipe"]["batch_size"] == 16:
            import torch

            torch.empty(1 << 60)
        return super()._run_epoch()
