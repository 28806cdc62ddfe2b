"""Learning curves of a run's trials for TensorBoard."""

import platform
import shutil
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from search.decisions.trial_record import TrialRecord
from search.storage.checkpoints import trial_folder_name
from spaces.columns import ACCURACY
from spaces.errors import UserError
from spaces.recipe import Recipe
from trainables.learning.metrics import EpochMetrics

TENSORBOARD_FOLDER = "tensorboard"
_TAGS = {
    "accuracy/validation": "accuracy",
    "accuracy/train": "train_accuracy",
    "loss/validation": "val_loss",
    "loss/train": "train_loss",
    "learning_rate": "learning_rate",
}


class CurveLogs:
    """Writes one folder of event files for each trial, after the trial has ended."""

    def __init__(self, run: Path) -> None:
        self._folder = run / TENSORBOARD_FOLDER
        self._written = {path.name for path in self._folder.glob("trial-*")}

    def write(self, records: Iterable[TrialRecord]) -> None:
        """Write the trials that ended since the last call and trained an epoch or more."""
        for record in records:
            name = trial_folder_name(record.number)
            if record.state.is_finished() and record.epochs and name not in self._written:
                assert record.recipe is not None
                self._write(name, record.recipe, record.epochs)
                self._written.add(name)

    def _write(self, name: str, recipe: Recipe, epochs: list[EpochMetrics]) -> None:
        # Its protocol buffers take a while to import.
        from tensorboardX.proto.event_pb2 import (
            Event,  # pyright: ignore[reportAttributeAccessIssue]
        )
        from tensorboardX.summary import scalar, text

        now = time.time()
        settings = [f"    {field}: {value}" for field, value in recipe.to_dict().items()]
        events = [
            Event(wall_time=now, file_version="brain.Event:2"),
            # A block of code in Markdown.
            Event(wall_time=now, summary=text("recipe", "\n".join(settings))),
        ]
        events += [
            Event(wall_time=now, step=one.epoch, summary=scalar(tag, value))
            for one in epochs
            for tag, value in _scalars(one)
        ]
        content = b"".join(_as_record(event.SerializeToString()) for event in events)
        # Written aside first, since a driver may be killed at any moment. SummaryWriter would write
        # in a thread, whose errors are printed and lost.
        partial = self._folder / f".{name}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            (partial / f"events.out.tfevents.{int(now)}.{platform.node()}").write_bytes(content)
            partial.rename(self._folder / name)
        except OSError as error:
            raise UserError(f"can't write {self._folder / name}: {error.strerror}") from None


def _scalars(epoch: EpochMetrics) -> Iterator[tuple[str, float]]:
    """An epoch's numbers by their tags; metrics beside accuracy where they were recorded."""
    yield from ((tag, getattr(epoch, column)) for tag, column in _TAGS.items())
    for metric, value in epoch.metrics.items():
        if metric != ACCURACY:
            yield f"{metric}/validation", value


def _as_record(content: bytes) -> bytes:
    """As https://www.tensorflow.org/tutorials/load_data/tfrecord lays records out."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(content))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
    return length + sums[0] + content + sums[1]
