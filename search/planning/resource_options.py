"""How many trials run at once: lists the options, checks which fit, and chooses one.

An option divides a machine among trials that run side by side. `search.planning.resource_tuning`
measures how many images they train a second.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.study.study import Resources

# Options: CPU cores of a trial (besides all of them), and trials on one GPU.
_CORES = (4, 2, 1)
_TRIALS_ON_A_GPU = (1, 2, 4, 8)
# More processes would take too long to start just for a comparison.
_MAX_TRIALS = 64
# This part of the machine's memory, and of a trial's share of its GPU, stays free.
_MARGIN = 0.2
# More trials at once must be faster by more than this. With fewer, a sampler knows more results
# when it proposes. Short measurements differ by this much anyway.
_WORTHWHILE = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceOption:
    """A number of trials at once on a machine, and what each of them takes."""

    trials: int
    resources: Resources

    @property
    def neighbours(self) -> int:
        """Trials that share the machine's cores or one GPU. That many are probed at once."""
        gpus = self.resources.gpus
        return max(1, min(self.trials, round(1 / gpus))) if gpus else self.trials

    def __str__(self) -> str:
        cores = _count(self.resources.cpus, "core")
        if not self.resources.gpus:
            part = ""
        elif self.resources.gpus == 1:
            part = " and a GPU"
        else:
            part = f" and 1/{round(1 / self.resources.gpus)} of a GPU"
        if self.trials == 1:
            return f"1 trial on {cores}{part}"
        return f"{self.trials} trials at once, {cores}{part} each"


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Memory that trials take, each with the space's largest recipe."""

    trial_bytes: int
    shared_bytes: int
    """Taken once for all trials: shared libraries, Ray, the driver."""
    gpu_bytes: int = 0
    """For one trial, including its CUDA context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineMemory:
    """Memory of the machine, and of one of its GPUs."""

    memory_bytes: int
    gpu_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """How many images the trials of an option train a second, all together."""

    option: ResourceOption
    images_per_second: tuple[float, ...]
    """For each recipe that was probed; above 0."""

    @property
    def overall(self) -> float:
        """Images per second of a search that trains equally many images of each recipe."""
        return len(self.images_per_second) / sum(1 / rate for rate in self.images_per_second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What `resources: auto` chose, and the measurements."""

    chosen: ResourceOption
    rated: tuple[Rated, ...]
    """Fewest trials at once first."""
    left_out: tuple[ResourceOption, ...] = ()
    """Options that did not fit into memory."""

    def __str__(self) -> str:
        """One line: what was chosen, and why."""
        first, others = self.rated[:1], self.rated[1:]
        own = [each for each in self.rated if each.option == self.chosen]
        if not own or not others:
            why = "nothing else to compare on this machine" if not self.left_out else ""
        elif self.chosen != first[0].option:
            why = f"{_times(own[0], first[0])} the images per second of {first[0].option}"
        else:
            best = max(others, key=lambda each: each.overall)
            why = f"{best.option}: {_times(best, own[0])} as many images per second"
        if self.left_out:
            fewest = min(option.trials for option in self.left_out)
            why += f"{'; ' if why else ''}memory is too small for {fewest} at once"
        return f"{self.chosen} ({why})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the run folder."""
        return {
            "told": str(self),
            "rated": [
                {**_plain(each.option), "images_per_second": list(each.images_per_second)}
                for each in self.rated
            ],
            "too_large_for_memory": [_plain(option) for option in self.left_out],
        }


def list_options(cores: int, gpus: int) -> list[ResourceOption]:
    """Options worth comparing, fewest trials first. With GPUs, every trial has a share of one.

    On 2 CPU cores: 1 trial on 2, 2 on 1 each; on 16: 1, 4, 8 and 16 trials.
    """
    if gpus:
        counts = {gpus * number: number for number in _TRIALS_ON_A_GPU if gpus * number <= cores}
        options = [_pack(cores, trials, 1 / number) for trials, number in counts.items()]
        # Fewer cores than GPUs: one trial for each core, with a GPU of its own.
        return options or [_pack(cores, cores, 1.0)]
    counts = {1, *(cores // each for each in _CORES if each <= cores)}
    return [_pack(cores, trials) for trials in sorted(counts) if trials <= _MAX_TRIALS]


def fits(option: ResourceOption, needs: Needs, memory: MachineMemory) -> bool:
    """Whether all trials of an option fit into memory at once, with a fifth left free."""
    taken = option.trials * needs.trial_bytes + needs.shared_bytes
    if taken > (1 - _MARGIN) * memory.memory_bytes:
        return False
    return needs.gpu_bytes <= (1 - _MARGIN) * memory.gpu_bytes * option.resources.gpus


def choose_option(rated: Sequence[Rated]) -> ResourceOption:
    """The option that trains the most images per second, or one with fewer trials within 5 %.

    rated: at least one.
    """
    best = max(each.overall for each in rated)
    good = [each.option for each in rated if each.overall * _WORTHWHILE >= best]
    return min(good, key=lambda option: option.trials)


def _pack(cores: int, trials: int, gpus: float = 0.0) -> ResourceOption:
    return ResourceOption(trials=trials, resources=Resources(cpus=cores // trials, gpus=gpus))


def _plain(option: ResourceOption) -> dict[str, Any]:
    return {"trials": option.trials, **asdict(option.resources)}


def _times(one: Rated, other: Rated) -> str:
    return f"{one.overall / other.overall:.2g} times"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
