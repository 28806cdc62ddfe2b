"""What this process does before or between epochs, told to whoever watches it.

Some of it takes minutes, and happens far below the training, which reports only epochs.
"""

from collections.abc import Callable

TRAINING = "training"

_listeners: list[Callable[[str], None]] = []


def tell_phase(name: str) -> None:
    """Tell that a phase begins, in words for a table: "reading data". It ends with the next one."""
    for listener in _listeners:
        listener(name)


def listen_to_phases(listener: Callable[[str], None]) -> None:
    """Have this process tell each phase to listener, and to no other."""
    _listeners[:] = [listener]
