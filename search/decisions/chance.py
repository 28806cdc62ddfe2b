"""What a model that has learned nothing gets right: which accuracies say that one has."""

from dataclasses import dataclass

_STANDARD_ERRORS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """The accuracy of guessing, on a validation split."""

    num_classes: int
    majority_share: float
    """The share of the largest class among the images: the accuracy of always naming it."""
    num_images: int

    @property
    def accuracy(self) -> float:
        """The best accuracy of a model that looks at no image."""
        return max(1 / self.num_classes, self.majority_share)

    def explains(self, accuracy: float) -> bool:
        """Whether an accuracy is what guessing would get, within two standard errors.

        Guessing draws a class at random, or always names the largest one. Accuracies between the
        two are neither: where one class is large, a model with balanced class weights gets them.
        """
        return accuracy <= 1 / self.num_classes + self._margin(1 / self.num_classes) or abs(
            accuracy - self.majority_share
        ) <= self._margin(self.majority_share)

    @property
    def can_be_told(self) -> bool:
        """Whether two standard errors are less than a quarter of the way from guessing to 100 %.

        With few images, or nearly all of them of one class, good models too look like guessing.
        """
        return self._margin(self.accuracy) < (1 - self.accuracy) / 4

    def _margin(self, share: float) -> float:
        return _STANDARD_ERRORS * (share * (1 - share) / self.num_images) ** 0.5
