"""The results of one training epoch. No torch, as in `costing.figures`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """The results of one epoch, at its end. Accuracies are fractions of 1."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over the epoch's batches, including label smoothing and class weights."""
    train_accuracy: float
    val_loss: float
    """Plain cross-entropy, so that recipes can be compared."""
    accuracy: float
    """On the validation split."""
    learning_rate: float
    """At the epoch's first step."""
    seconds: float
    """Wall time. The first epoch includes the time to find or compute frozen features."""
