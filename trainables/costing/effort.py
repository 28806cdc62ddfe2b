"""How long training takes, foretold by arithmetic. No torch, as in `figures`."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedWork:
    """Work that only the first trial does that comes so far: computing frozen features."""

    name: str
    """Trials whose work has the same name share its result."""
    seconds: float
    after: int = 0
    """It is done after this many epochs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Seconds on a machine of ordinary speed. Others take the same multiple of all of them."""

    epoch: float
    """One epoch, in the mean over the recipe's epochs."""
    shared: tuple[SharedWork, ...] = ()
    """Besides the epochs; also `int8_start` and `int8_end`."""
    float_epochs: int = 0
    """Epochs before an int8 model is prepared."""
    int8_start: float = 0.0
    """Preparing it."""
    int8_end: float = 0.0
    """Making and measuring its ONNX file, within the last epoch."""

    def alone(self, epochs: float, *, done: int = 0) -> float:
        """What is left of a trial of this many epochs, without shared work."""
        if done >= epochs:
            return 0.0
        int8 = self.int8_end + (self.int8_start if done <= self.float_epochs else 0.0)
        return int8 + (epochs - done) * self.epoch

    def left(self, epochs: int, *, done: int = 0, paid: Collection[str] = ()) -> float:
        """What is left of a trial of this many epochs. paid: names of work that was done."""
        shared = (work for work in self.shared if done <= work.after and work.name not in paid)
        return self.alone(epochs, done=done) + sum(work.seconds for work in shared)

    def begun(self, done: int) -> list[str]:
        """The names of shared work that a trial did, or does now, which ended so many epochs."""
        return [work.name for work in self.shared if work.after == 0 or work.after < done]
