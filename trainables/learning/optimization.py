"""Optimisers, learning-rate schedules and class weights, by the names that recipes use."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn, optim
from torch.nn import functional as F
from torch.optim import lr_scheduler

from spaces.recipe import Recipe, SchedulerName

_OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": lambda parameters, **options: optim.SGD(
        parameters, momentum=0.9, nesterov=True, **options
    ),
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}

# The epochs in int8 have a schedule of their own, from this part of the recipe's rate down to 0.
INT8_RATE = 0.1
INT8_SCHEDULER: SchedulerName = "cosine"

# rmsprop has no fused kernel.
_FUSED_ON_GPU = ("adam", "adamw", "sgd")
_FUSED_ON_CPU = (*_FUSED_ON_GPU, "adagrad")


def build_optimizer(
    recipe: Recipe, parameters: Iterable[nn.Parameter], *, learning_rate: float | None = None
) -> optim.Optimizer:
    """Torch's optimiser with its defaults; sgd has Nesterov momentum 0.9.

    learning_rate: by default the recipe's.

    Uses the fused kernel if torch has one for the parameters' device. On one core, a step for the
    last 8 blocks of MobileNetV2 takes 1.9 ms with adam and 1.2 with sgd, instead of 7.5 and 3.8.
    """
    build, trained = _OPTIMIZERS[recipe.optimizer], list(parameters)
    on_gpu = any(parameter.is_cuda for parameter in trained)
    fused = recipe.optimizer in (_FUSED_ON_GPU if on_gpu else _FUSED_ON_CPU)
    options = {"fused": True} if fused else {}
    rate = recipe.learning_rate if learning_rate is None else learning_rate
    return build(trained, lr=rate, weight_decay=recipe.weight_decay, **options)


class Schedule:
    """The learning rate over a training run. Call `after_step` and `after_epoch`.

    constant: no change. step: divided by 10 after each third of the epochs. plateau: divided by 10
    when the validation loss has not fallen for 3 epochs. cosine: falls to 0 over all epochs, step
    by step. onecycle: rises for 30 % of the steps to the optimiser's rate, then falls (arXiv
    1708.07120).
    """

    def __init__(
        self, name: SchedulerName, optimizer: optim.Optimizer, *, epochs: int, steps_per_epoch: int
    ) -> None:
        steps = epochs * steps_per_epoch
        self._by_step: lr_scheduler.LRScheduler | None = None
        self._by_epoch: lr_scheduler.LRScheduler | None = None
        self._by_loss: lr_scheduler.ReduceLROnPlateau | None = None
        match name:
            case "constant":
                pass
            case "step":
                third = max(1, -(-epochs // 3))
                self._by_epoch = lr_scheduler.StepLR(optimizer, step_size=third, gamma=0.1)
            case "plateau":
                self._by_loss = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=2)
            case "cosine":
                self._by_step = lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
            case "onecycle":
                self._by_step = lr_scheduler.OneCycleLR(
                    optimizer,
                    max_lr=optimizer.param_groups[0]["lr"],
                    total_steps=steps,
                    # Cycling momentum would hide the effect of the optimiser's own choice.
                    cycle_momentum=False,
                )

    def after_step(self) -> None:
        if self._by_step is not None:
            self._by_step.step()

    def after_epoch(self, val_loss: float) -> None:
        if self._by_epoch is not None:
            self._by_epoch.step()
        if self._by_loss is not None:
            self._by_loss.step(val_loss)

    def state_dict(self) -> dict[str, object]:
        active = self._by_step or self._by_epoch or self._by_loss
        return active.state_dict() if active is not None else {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        active = self._by_step or self._by_epoch or self._by_loss
        if active is not None:
            active.load_state_dict(state)


def balanced_class_weights(labels: NDArray[np.int64], num_classes: int) -> torch.Tensor:
    """Weights (classes,) that make every class count the same; 1 on average over the images.

    labels may lack a class, as those of a probe's few images do.
    """
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    return torch.tensor(len(labels) / (num_classes * counts), dtype=torch.float32)


def weighted_cross_entropy(
    logits_NK: torch.Tensor,
    labels_N: torch.Tensor,
    class_weights_K: torch.Tensor | None,
    label_smoothing: float,
) -> torch.Tensor:
    """The mean of the images' smoothed losses, each weighted by its image's own class.

    class_weights_K: None for equal weights. With label smoothing, torch's own weights also weigh
    the shares of the loss that belong to the other classes, so that the rarest class wins
    (pytorch#104776).
    """
    if class_weights_K is None:
        return F.cross_entropy(logits_NK, labels_N, label_smoothing=label_smoothing)
    losses_N = F.cross_entropy(
        logits_NK, labels_N, reduction="none", label_smoothing=label_smoothing
    )
    weights_N = class_weights_K[labels_N]
    return (losses_N * weights_N).sum() / weights_N.sum()
