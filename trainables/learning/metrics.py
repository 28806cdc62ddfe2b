"""The results of one training epoch. No torch, as in `costing.figures`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from spaces.columns import ACCURACY, METRICS, is_recall


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMetrics:
    """The results of one epoch, at its end. Accuracies and recalls are fractions of 1."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over the epoch's batches, including label smoothing and class weights."""
    train_accuracy: float
    val_loss: float
    """Plain cross-entropy, so that recipes can be compared."""
    accuracy: float
    """On the validation split, like all that follow. Older runs recorded no other metric."""
    balanced_accuracy: float | None = None
    macro_f1: float | None = None
    worst_class_recall: float | None = None
    top5_accuracy: float | None = None
    recalls: Mapping[str, float] = field(default_factory=dict)
    """By column, such as `recall:cat`: of the classes that the study names."""
    learning_rate: float
    """At the epoch's first step."""
    seconds: float
    """Wall time. The first epoch includes the time to find or compute frozen features."""

    def __getitem__(self, metric: str) -> float:
        """A metric by its column; NaN if it was not recorded."""
        value = self.recalls.get(metric) if is_recall(metric) else getattr(self, metric)
        return math.nan if value is None else value

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric that was recorded, by column."""
        known = {name: self[name] for name in (*METRICS, *self.recalls)}
        return {name: value for name, value in known.items() if not math.isnan(value)}

    def to_dict(self) -> dict[str, Any]:
        """Plain data by column, without what was not recorded."""
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "recalls"}
        every = named | dict(self.recalls)
        return {name: value for name, value in every.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The opposite of `to_dict`. A metric that is NaN, as in a table, was not recorded.

        Raises TypeError for a column that no version wrote.
        """
        recalls = {name: value for name, value in values.items() if is_recall(name)}
        named = {name: value for name, value in values.items() if name not in recalls}
        for metric in METRICS:
            if metric != ACCURACY and _is_nan(named.get(metric)):
                del named[metric]
        kept = {name: value for name, value in recalls.items() if not _is_nan(value)}
        return cls(**named, recalls=kept)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
