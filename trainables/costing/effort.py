"""How long training takes, foretold by arithmetic. No torch, as in `figures`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Seconds on a machine of ordinary speed. Others take the same multiple of all of them."""

    epoch: float
    """One epoch, in the mean over the recipe's epochs."""
    int8_start: float = 0.0
    """Preparing an int8 model, after its epochs in float."""
    int8_end: float = 0.0
    """Making and measuring its ONNX file, within the last epoch."""
    float_epochs: int = 0
    """Epochs before `int8_start`."""
    once: float = 0.0
    """Before the first epoch, unless an earlier trial did it: computing frozen features."""
    shared: str | None = None
    """Names these features: trials with the same name share them."""

    def seconds(self, epochs: int, *, done: int = 0) -> float:
        """What is left of a trial of this many epochs that finds its frozen features."""
        if done >= epochs:
            return 0.0
        int8 = self.int8_end + (self.int8_start if done <= self.float_epochs else 0.0)
        return int8 + (epochs - done) * self.epoch
