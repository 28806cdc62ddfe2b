"""The 95 % intervals of accuracies: wherever one is shown, its interval comes from here."""

from dataclasses import dataclass

Z = 1.959963984540054
"""Of the normal distribution, for 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and the 95 % interval around it."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high

    def to_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}

    def write_percent(self) -> str:
        """Write it in percent: 81.3 (77.9 to 84.3)."""
        return f"{100 * self.mean:.1f} ({self.write_ends()})"

    def write_ends(self) -> str:
        """Write its ends in percent: 77.9 to 84.3."""
        return f"{100 * self.low:.1f} to {100 * self.high:.1f}"


def wilson_interval(share: float, count: float) -> Interval:
    """Wilson's score interval of a share of right answers (1927, doi 10.2307/2276774).

    share: 0 to 1. count: of the images that gave it, above 0; that of independent ones need not be
    a whole number. The interval says how far the accuracy on other images of the same kind may
    lie. It does not cover other seeds, nor that a search picked this model for its accuracy.
    """
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * (share * (1 - share) / count + (Z / (2 * count)) ** 2) ** 0.5
    return Interval(mean=share, low=max(0.0, centre - half), high=min(1.0, centre + half))
