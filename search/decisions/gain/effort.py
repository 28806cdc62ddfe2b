"""What training a recipe takes by arithmetic alone, before anything was trained."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """In any unit that grows with the seconds, the same one for all recipes."""

    epoch: float
    """Of one epoch."""
    once: float = 0.0
    """Before the first epoch, if no other trial shared what this makes: frozen features."""
    shared: str | None = None
    """Names what is shared: trials with the same name pay `once` together."""
