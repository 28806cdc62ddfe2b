"""What guessing gets in the study's metric: which values say that a model has learned nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spaces.columns import ACCURACY
from spaces.metrics import TOP, TOP_ACCURACY, best_guess

_STANDARD_ERRORS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What guessing gets on a validation split, in one metric. Make it with `chance_of`."""

    value: float
    """The best in the mean of a model that looks at no image."""
    at_random: float
    """That of drawing each class as often."""
    num_images: int
    """Of the validation split."""
    independent: float
    """As many independent images give a share the standard error that this metric has."""
    good_models_exceed_it: bool = True
    """Whether every good model gets more. A single class's recall is 0 in good models too."""

    def explains(self, value: float) -> bool:
        """Whether a value is what guessing would get, within two standard errors.

        Guessing draws a class at random, or always names the largest one. Accuracies between the
        two are neither: where one class is large, a model with balanced class weights gets them.
        """
        return (
            value <= self.at_random + self._margin(self.at_random)
            or abs(value - self.value) <= self._margin(self.value)
        )  # fmt: skip

    @property
    def can_be_told(self) -> bool:
        """Whether two standard errors are less than a quarter of the way from guessing to 100 %.

        With few images, or nearly all of them of one class, good models too look like guessing.
        """
        return self.good_models_exceed_it and self._margin(self.value) < (1 - self.value) / 4

    def _margin(self, share: float) -> float:
        return _STANDARD_ERRORS * (share * (1 - share) / self.independent) ** 0.5


def chance_of(metric: str | None, class_counts: Sequence[int]) -> Chance:
    """What guessing gets in a metric; None: in accuracy.

    class_counts: images of each class in the validation split, at least one of them above 0.
    """
    metric = metric or ACCURACY
    counts = np.array([count for count in class_counts if count])
    num_images = int(counts.sum())
    shares = metric in (ACCURACY, TOP_ACCURACY)
    at_random = (TOP if metric == TOP_ACCURACY else 1) / len(counts)
    # A mean over classes has the errors of each class, and small ones have large errors.
    of_means = len(counts) ** 2 / float((1 / counts).sum())
    return Chance(
        value=best_guess(metric, class_counts),
        at_random=min(1.0, at_random),
        num_images=num_images,
        independent=num_images if shares else of_means,
        good_models_exceed_it=shares or metric in ("balanced_accuracy", "macro_f1"),
    )
