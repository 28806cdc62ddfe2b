"""Learning curves of a run's trials for TensorBoard."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from search.decisions.trial_record import TrialRecord
from search.storage.checkpoints import trial_folder_name
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
        # Its protocol buffers take a while to import. SummaryWriter would write in a thread, whose
        # errors are printed and lost.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import (
            Event,  # pyright: ignore[reportAttributeAccessIssue]
        )
        from tensorboardX.summary import scalar, text

        # Written aside first, since a driver may be killed at any moment.
        partial = self._folder / f".{name}"
        settings = [f"    {field}: {value}" for field, value in recipe.to_dict().items()]
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            writer = EventsWriter(str(partial / "events"))
            written = text("recipe", "\n".join(settings))  # a block of code in Markdown
            writer.write_event(Event(wall_time=time.time(), summary=written))
            for metrics in epochs:
                for tag, column in _TAGS.items():
                    value = scalar(tag, getattr(metrics, column))
                    writer.write_event(
                        Event(wall_time=time.time(), step=metrics.epoch, summary=value)
                    )
            writer.close()
            partial.rename(self._folder / name)
        except OSError as error:
            raise UserError(f"can't write {self._folder / name}: {error.strerror}") from None
