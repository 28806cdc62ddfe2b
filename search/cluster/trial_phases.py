"""What running trials do while they end no epoch, as their processes tell it through Ray."""

from collections.abc import Iterable

import ray
from ray.exceptions import RayError
from ray.experimental import internal_kv

from trainables.system.phases import TRAINING
from trainables.trial import PHASES, phase_key


def read_phases(numbers: Iterable[int]) -> dict[int, str]:
    """The phases of those of these trials that are not training, in words for a table."""
    job = ray.get_runtime_context().get_job_id()
    found = {}
    for number in numbers:
        try:
            written = internal_kv._internal_kv_get(phase_key(job, number), namespace=PHASES)
        except (RayError, RuntimeError):  # the next look may succeed, or finds that Ray is dead
            return found
        phase = written.decode() if written else TRAINING
        if phase != TRAINING:
            found[number] = phase
    return found
