"""Counts, while images are decoded, what a person should know about them."""

from array import array
from collections import Counter
from pathlib import PurePosixPath

import numpy as np

from trainables.data.image_files import (
    BadImageError,
    Facts,
    NeedsMoreError,
    Reading,
    TooManyPixelsError,
)
from trainables.data.image_sources import Sample
from trainables.data.splits import some_of


class Tally:
    """Counts what a person should know about the images."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.bad: list[tuple[Sample, BadImageError]] = []
        self.good = self.already = self._enlarged = 0
        self.top_label = -1
        self._cut_off = array("f")
        self._bits = Counter[int]()

    @property
    def done(self) -> int:
        return self.good + self.already + len(self.bad)

    def add(self, label: int, facts: Facts) -> None:
        self.good += 1
        self.top_label = max(self.top_label, label)
        self._enlarged += facts.enlarged
        self._cut_off.append(facts.cut_off)
        if facts.bits > 8:
            self._bits[facts.bits] += 1

    def add_bad(self, sample: Sample, error: BadImageError) -> None:
        self.bad.append((sample, error))
        self.top_label = max(self.top_label, sample.label)

    def bad_lines(self, classes: tuple[str, ...]) -> list[str]:
        """A line for each unreadable image, and one for all that miss the same reader."""
        missing: dict[tuple[str, str], Counter[str]] = {}
        lines = []
        for sample, error in self.bad:
            if isinstance(error, NeedsMoreError):
                suffix = PurePosixPath(sample.path or sample.location).suffix.lower()
                counts = missing.setdefault((suffix, str(error)), Counter())
                counts[classes[sample.label]] += 1
            else:
                lines.append(f"{sample.location}: {error}")
        for (suffix, way_out), counts in missing.items():
            of_class = some_of([f"{name} {count:,}" for name, count in sorted(counts.items())])
            lines.append(f"{counts.total():,} {suffix} files ({of_class}): {way_out}")
        return lines

    def way_out(self) -> str:
        """The last line of an error for unreadable images."""
        largest = max(
            (error.megapixels for _, error in self.bad if isinstance(error, TooManyPixelsError)),
            default=0,
        )
        return (
            f"{len(self.bad):,} of {self.done:,} images can't be read; repair or remove them, or"
            " skip them with --skip-bad"
            + (f"; --max-megapixels {largest} reads the large ones" if largest else "")
        )

    def notes(self) -> list[str]:
        size, lines = self._reading.size, []
        if self._enlarged:
            lines.append(f"images smaller than {size} px that were enlarged: {self._enlarged:,}")
        shares = np.asarray(self._cut_off)
        if shares.max(initial=0.0) >= 0.005:
            lines.append(
                f"cropping to the centre square cut off {np.median(shares):.0%} of the area in the"
                f" median, {shares.max():.0%} at most; --fit pad and --fit stretch cut off nothing"
            )
        if self._bits:
            found = ", ".join(f"{count:,} of {bits}" for bits, count in sorted(self._bits.items()))
            how = "as --bits says" if self._reading.bits else "by its own range; --bits sets one"
            lines.append(f"images of more than 8 bits, each scaled {how}: {found} bits")
        return lines
