"""Reads Ray's error text about the end of a trial's process, and says what it means."""

import re
from pathlib import Path

from ray.tune.experiment import Trial as RayTrial

_ACTOR = re.compile(r"(?:actor_id[:=]\s*|The actor |Actor\()([0-9a-f]{32})\b")
_MEMORY_USED = re.compile(r"was ([\d.]+)GB used / ([\d.]+)GB limit")
# Ray's words if a machine is gone or can't be reached. Its process may have been fine.
_LOST = ("is unavailable", "ActorUnavailableError", "node has died", "node has been terminated")
# After this CUDA error a process can't go on. The cause is a bad GPU or a bad recipe.
_BROKEN_DEVICE = "AcceleratorError"


def error_text(trial: RayTrial) -> str:
    """Ray's error text about the end of a trial's process; empty if there is none.

    Reads the text and not the pickle: `Trial.get_pickled_error` looks for the pickle in the run
    folder before it is there.
    """
    return Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""


def is_lost_machine(text: str) -> bool:
    """Whether the machine was lost."""
    return any(words in text for words in _LOST)


def is_low_memory(text: str) -> bool:
    """Whether Ray killed the process because the machine was low on memory."""
    return "low on memory" in text


def is_worker_death(text: str) -> bool:
    """Whether the process was killed from outside, and not by an error in it or at its start."""
    died = "ActorDiedError" in text or "actor died" in text
    return is_low_memory(text) or (died and "creation task" not in text)


def is_unsaved(text: str) -> bool:
    """Whether the process was fine, but Ray could not store its checkpoint."""
    return "persist_current_checkpoint" in text


def is_broken_device(text: str) -> bool:
    """Whether the process's GPU failed."""
    return _BROKEN_DEVICE in text


def node_of(text: str) -> str | None:
    """Ray's id of the node of the process; None if Ray does not know."""
    import ray

    found = _ACTOR.search(text)
    if found is None:
        return None
    # Private, but the only way to find dead actors without a dashboard.
    actor = ray._private.state.actors(found[1])  # pyright: ignore[reportAttributeAccessIssue, reportPrivateImportUsage]
    return (actor or {}).get("Address", {}).get("NodeID") or None


def reason(text: str) -> str:
    """The reason in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "Ray gave no reason"
    if is_low_memory(text):
        return f"out of memory: Ray ended the trial's process again and again{_memory_used(text)}"
    if is_lost_machine(text):
        return "its machines were lost again and again"
    if is_worker_death(text):
        return "the trial's process died: killed from outside, or by the system for its memory"
    return lines[-1]


def _memory_used(text: str) -> str:
    found = _MEMORY_USED.search(text)
    return f", when {found[1]} of {found[2]} GB were used" if found else ""
