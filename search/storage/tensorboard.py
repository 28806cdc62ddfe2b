"""Learning curves of a run's trials for TensorBoard."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from search.decisions.trial_record import TrialRecord
from search.storage.checkpoints import trial_folder_name
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
        from tensorboardX import SummaryWriter  # its protocol buffers take a while to import

        # Written aside first, since a driver may be killed at any moment.
        partial = self._folder / f".{name}"
        shutil.rmtree(partial, ignore_errors=True)
        with SummaryWriter(str(partial)) as writer:
            settings = [f"    {field}: {value}" for field, value in recipe.to_dict().items()]
            writer.add_text("recipe", "\n".join(settings))  # a block of code in Markdown
            for metrics in epochs:
                for tag, column in _TAGS.items():
                    writer.add_scalar(tag, getattr(metrics, column), metrics.epoch)
        partial.rename(self._folder / name)
