"""What one epoch of a training came to. No torch, as in `costing.figures`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """What one epoch came to, at its end. Accuracies are fractions of 1."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over the epoch's batches, with label smoothing and class weights where they are on."""
    train_accuracy: float
    val_loss: float
    """Plain cross-entropy, so that recipes compare."""
    accuracy: float
    """Of the validation split."""
    learning_rate: float
    """At the epoch's first step."""
    seconds: float
    """On the wall; in the first epoch with what it takes to find or compute frozen features."""
