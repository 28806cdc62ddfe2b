"""Trains one recipe. Training reports; it does not know who listens.

Read from the top: `train` trains a whole recipe. `Training` does the same epoch by epoch, and its
state can be saved and loaded between epochs. An epoch's random numbers depend only on the recipe's
seed and the epoch's number, so an interrupted run ends like any other. The batches are the same
whether the frozen blocks run in every step or their output comes from the cache.

With qat, the first epochs train in float. Then the frozen blocks become int8 for good, the other
blocks get fake quantisation, and accuracies are those of the int8 model that results.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from spaces.errors import UserError
from spaces.files import reason, whole_file
from spaces.metrics import TOP, TOP_ACCURACY, class_metrics, metric_of
from spaces.recipe import Recipe, recipe_from
from trainables.data.dataset import ImageData
from trainables.inputs.augmentation import build_augmentation
from trainables.inputs.input_sources import rows_in_order
from trainables.learning.metrics import EpochMetrics
from trainables.learning.optimization import (
    INT8_RATE,
    INT8_SCHEDULER,
    Schedule,
    balanced_class_weights,
    build_optimizer,
    weighted_cross_entropy,
)
from trainables.learning.precision_stages import (
    INT8_FORMAT,
    FloatStage,
    Int8Stage,
    PrecisionStage,
)
from trainables.models.blocks import freeze
from trainables.models.building import build_model
from trainables.system.cores import num_cores
from trainables.system.gpus import as_device
from trainables.system.phases import TRAINING, tell_phase


class TrainingFailedError(UserError):
    """The recipe can't be trained further: its loss is not a finite number."""


def train(
    recipe: Recipe,
    data: ImageData,
    report: Callable[[EpochMetrics], None],
    *,
    device: torch.device | None = None,
) -> "Training":
    """Train a recipe to its end, calling report after every epoch.

    Raises UserError if the recipe does not fit the data or the model, TrainingFailedError if the
    loss is not a finite number.
    """
    training = Training(recipe, data, device=device)
    while not training.done:
        report(training.run_epoch())
    return training


class Training:
    """One recipe in training: `run_epoch` until `done`.

    deepest_unfrozen: the largest `unfrozen` of this model's trials in the search, so that they can
    use the frozen features that this one caches. room_bytes: memory of the device that inputs may
    take; by default `room_for_inputs`. recalls: columns such as `recall:cat` to record as well.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: ImageData,
        *,
        device: torch.device | None = None,
        deepest_unfrozen: int | None = None,
        room_bytes: int | None = None,
        recalls: Sequence[str] = (),
    ) -> None:
        self.recipe = recipe
        self.device = as_device(device or default_device())
        self.history: list[EpochMetrics] = []
        self._data = data
        self._deepest_unfrozen = deepest_unfrozen
        self._room_bytes = room_bytes
        self._recalls = recalls
        self._stage: PrecisionStage | None = None
        labels = data.labels[rows_in_order(data)]
        self._labels = torch.from_numpy(labels).to(self.device)
        self._num_train = len(data.rows("train"))
        self.model = build_model(recipe, num_classes=len(data.classes)).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        freeze(self.model, recipe.unfrozen)
        if recipe.weights == "none":
            _raise_bn_momentum(self.model)
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self._optimizer = build_optimizer(recipe, trained)
        self._num_batches = -(
            -_num_trained(self._num_train, recipe.batch_size) // recipe.batch_size
        )
        self._schedule = Schedule(
            recipe.scheduler,
            self._optimizer,
            epochs=recipe.epochs,
            steps_per_epoch=self._num_batches,
        )
        self._augment = build_augmentation(recipe)
        weights_K = balanced_class_weights(labels[: self._num_train], len(data.classes))
        weighted = recipe.class_weighting == "balanced"
        self._class_weights = weights_K.to(self.device) if weighted else None
        # How often each training image is drawn, in proportion.
        train_labels = torch.from_numpy(labels[: self._num_train])
        self._draws = weights_K[train_labels] if recipe.oversampling else None

    @property
    def done(self) -> bool:
        return len(self.history) == self.recipe.epochs

    def run_epoch(self) -> EpochMetrics:
        """Train one epoch and validate. Raises TrainingFailedError if the loss is not finite."""
        started = time.monotonic()
        epoch = len(self.history) + 1
        stage = self._open_stage(epoch)
        tell_phase(TRAINING)
        learning_rate = self._optimizer.param_groups[0]["lr"]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            seed = np.random.SeedSequence([self.recipe.seed, epoch]).generate_state(1)[0]
            torch.manual_seed(int(seed))
            train_loss, train_accuracy = self._train_epoch(stage)
        val_loss, measured = self._validate(stage)
        if not math.isfinite(train_loss) or not math.isfinite(val_loss):
            raise TrainingFailedError(
                f"the loss was {train_loss} in training and {val_loss} in validation"
                f" after epoch {epoch}; a learning rate below {self.recipe.learning_rate:.2g} may"
                " help"
            )
        self._schedule.after_epoch(val_loss)
        metrics = EpochMetrics(
            epoch=epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            learning_rate=learning_rate,
            seconds=time.monotonic() - started,
            **measured,
        )
        self.history.append(metrics)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """All that the next epoch depends on, as tensors and plain data."""
        return {
            "recipe": self.recipe.to_dict(),
            "history": [metrics.to_dict() for metrics in self.history],
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "int8": self._stage.state_dict() if self._stage is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of the same recipe.

        Raises ValueError if an older version wrote it within the epochs in int8, which it trained
        in another way.
        """
        # An older version did not have all of a recipe's fields.
        assert recipe_from(state["recipe"]) == self.recipe, "a state of another recipe"
        done = len(state["history"]) == self.recipe.epochs
        if state["int8"] is not None and state["int8"].get("format") != INT8_FORMAT and not done:
            raise ValueError("a state of an older version, within the epochs in int8")
        self.model.load_state_dict(state["model"])
        self._stage = None  # its frozen blocks may differ
        if state["int8"] is not None:
            self._begin_int8(state["int8"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.history = [EpochMetrics.from_dict(metrics) for metrics in state["history"]]

    def _open_stage(self, epoch: int) -> PrecisionStage:
        """The stage that trains in this epoch.

        It opens this late so that frozen features use the weights of a loaded state.
        """
        if self.recipe.qat and epoch > self.recipe.num_float_epochs:
            if not isinstance(self._stage, Int8Stage):
                self._begin_int8()
        elif self._stage is None:
            self._stage = FloatStage(
                self.model,
                self.recipe,
                self._data,
                self.device,
                deepest_unfrozen=self._deepest_unfrozen,
                room_bytes=self._room_bytes,
            )
        assert self._stage is not None
        return self._stage

    def _begin_int8(self, state: dict[str, Any] | None = None) -> None:
        """Switch to fake quantisation, with an optimiser and a schedule of its own.

        Without batch norm, which is folded by now, the recipe's rate would be too high: after one
        epoch of it, MobileNetV2 was at chance.
        """
        recipe = self.recipe
        tell_phase("preparing int8")
        self._stage = Int8Stage(
            self.model, recipe, self._data, self.device, state, room_bytes=self._room_bytes
        )
        self._optimizer = build_optimizer(
            recipe,
            self._stage.parameters(),
            learning_rate=INT8_RATE * recipe.learning_rate,
        )
        self._schedule = Schedule(
            INT8_SCHEDULER,
            self._optimizer,
            epochs=recipe.epochs - recipe.num_float_epochs,
            steps_per_epoch=self._num_batches,
        )

    def _train_epoch(self, stage: PrecisionStage) -> tuple[float, float]:
        forward = stage.training(len(self.history) + 1)
        loss_sum = torch.zeros((), device=self.device)
        num_correct = torch.zeros((), device=self.device)
        batch_size = self.recipe.batch_size
        order = self._order()[: _num_trained(self._num_train, batch_size)]
        labels = self._labels[order.to(self.device)].split(batch_size)
        batches = stage.inputs.batches(order, batch_size)
        for batch, labels_N in zip(batches, labels, strict=True):
            if self._augment is not None:
                batch = self._augment(batch)
            logits_NK = forward(batch)
            loss = weighted_cross_entropy(
                logits_NK.float(), labels_N, self._class_weights, self.recipe.label_smoothing
            )
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            self._schedule.after_step()
            # Summed on the device: reading a number here would make a GPU wait at every step.
            loss_sum += loss.detach()
            num_correct += (logits_NK.argmax(1) == labels_N).sum()
        return float(loss_sum) / len(labels), float(num_correct) / len(order)

    def _order(self) -> torch.Tensor:
        """(training images,): their positions in this epoch; with oversampling, some repeat."""
        if self._draws is None:
            return torch.randperm(self._num_train)
        return torch.multinomial(self._draws, self._num_train, replacement=True)

    @torch.inference_mode()
    def _validate(self, stage: PrecisionStage) -> tuple[float, dict[str, Any]]:
        """The loss, and the metrics by their fields in `EpochMetrics`."""
        final = len(self.history) + 1 == self.recipe.epochs
        forward, inputs = stage.evaluation(final=final)
        loss_sum = torch.zeros((), device=self.device)
        predicted: list[torch.Tensor] = []
        num_in_top = torch.zeros((), device=self.device)
        order = torch.arange(self._num_train, len(self._labels))
        labels = self._labels[self._num_train :].split(inputs.evaluation_batch)
        batches = inputs.batches(order, inputs.evaluation_batch)
        for batch, labels_N in zip(batches, labels, strict=True):
            logits_NK = forward(batch)
            loss_sum += F.cross_entropy(logits_NK.float(), labels_N, reduction="sum")
            predicted.append(logits_NK.argmax(1))
            best_NT = logits_NK.topk(min(TOP, logits_NK.shape[1]), dim=1).indices
            num_in_top += (best_NT == labels_N[:, None]).sum()
        measured = self._metrics(torch.cat(predicted).cpu().numpy())
        measured[TOP_ACCURACY] = float(num_in_top) / len(order)
        return float(loss_sum) / len(order), measured

    def _metrics(self, predicted: np.ndarray) -> dict[str, Any]:
        """predicted: (validation images,) the best class of each."""
        labels = self._data.labels[self._data.rows("validation")]
        classes = self._data.classes
        return {
            **class_metrics(labels, predicted, num_classes=len(classes)),
            "recalls": {
                column: recall
                for column in self._recalls
                if (recall := metric_of(column, labels, predicted, classes)) is not None
            },
        }


def default_device() -> torch.device:
    """The first GPU that this process may use, or else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _raise_bn_momentum(model: nn.Module) -> None:
    """Give running statistics at least torch's default momentum of 0.1.

    torchvision's MobileNetV3 and larger EfficientNets have 0.01, which suits hundreds of epochs.
    After a few epochs from random weights, the statistics have hardly changed, and validation stays
    at chance (MobileNetV3-Small, 4 epochs at 96 px on 25 classes: 22 % in training, 4 % in
    validation; with 0.1, 21 %).
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.momentum is not None:
            module.momentum = max(module.momentum, 0.1)


def _num_trained(num_images: int, batch_size: int) -> int:
    """All images, except a single one in the last batch, since batch norm needs two."""
    alone = num_images > batch_size > 1 and num_images % batch_size == 1
    return num_images - alone


def use_threads(count: int | None) -> None:
    """Let torch use this many CPU threads in this process; None: one for each core.

    The number of threads changes how sums are rounded. To repeat a trial's accuracy to the last
    image, use as many as it had.
    """
    torch.set_num_threads(count or num_cores())


def save_model(training: Training, path: Path) -> None:
    """Write a trained model's state dict, for `weights:` in a recipe or for torch.load.

    Raises UserError if the file can't be written.
    """
    try:
        with whole_file(path) as partial:
            torch.save(training.model.state_dict(), partial)
    except RuntimeError as error:  # torch's writer raises it too
        raise UserError(f"can't write {path}: {reason(error)}") from None
