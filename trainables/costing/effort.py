"""How long training takes, foretold by arithmetic. No torch, as in `figures`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Seconds on a machine of ordinary speed. Others take the same multiple of all of them."""

    epoch: float
    """One epoch, in the mean over the recipe's epochs."""
    setup: float = 0.0
    """Besides the epochs: for an int8 model, its preparation and its ONNX file."""
    once: float = 0.0
    """Before the first epoch, unless an earlier trial did it: computing frozen features."""
    shared: str | None = None
    """Names these features: trials with the same name share them."""

    def seconds(self, epochs: float) -> float:
        """A trial of this many epochs that finds its frozen features."""
        return self.setup + epochs * self.epoch
