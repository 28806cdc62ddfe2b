"""Memory and disk that a search takes, from what its probes took, and what the machine has."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from search.candidates import Candidate
from search.forecast import fit_parts
from search.probes import Probed
from spaces.recipe import Recipe
from trainables.images import ImageData
from trainables.node_cache import cache_folder


def worker_bytes(candidates: Sequence[Candidate], took: Probed) -> tuple[float, float]:
    """Memory of a worker at the largest recipe, without what is shared; and of its GPU."""
    recipes = [probe.recipe for probe in took.probes]
    amounts = np.array(
        [
            (1.0, _activations(probe.recipe, min(probe.recipe.batch_size, probe.train_images)))
            for probe in took.probes
        ]
    )

    def largest(measured: list[int]) -> float:
        if not any(measured):
            return 0.0
        fit = fit_parts(amounts, np.maximum(np.array(measured, dtype=float), 1.0))
        return max(
            float(fit.at(np.array((1.0, _activations(recipe, recipe.batch_size)))))
            * max(1.0, fit.ratio_of([other.model == recipe.model for other in recipes]))
            for recipe in (candidate.recipe for candidate in candidates)
        )

    memory = largest([probe.memory_bytes for probe in took.probes])
    return took.idle_bytes + memory, largest([probe.gpu_bytes for probe in took.probes])


def _activations(recipe: Recipe, batch_size: int) -> float:
    """What memory grows with, for recipes of one model."""
    return batch_size * recipe.input_size**2 * recipe.width


def checkpoint_bytes(candidates: Sequence[Candidate], took: Probed) -> float:
    """Of the average candidate, with its optimiser's state."""
    size_mb = {candidate.recipe.key: candidate.cost.size_mb for candidate in candidates}
    per_mb = [probe.checkpoint_bytes / size_mb[probe.recipe.key] for probe in took.probes]
    return float(np.mean(per_mb)) * sum(size_mb.values()) / len(size_mb)


def resized_bytes(data: ImageData, candidates: Sequence[Candidate]) -> int:
    """What resized images will take that are not in the cache yet."""
    sizes = {candidate.recipe.input_size for candidate in candidates} - {data.size}
    folder = cache_folder() / "pixels"
    missing = [size for size in sizes if not (folder / f"{data.digest}-{size}px.arrow").exists()]
    return sum(len(data) * size * size * 3 for size in missing)


def machine_bytes() -> int:
    """Memory of this machine, or what its container may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # a container without a limit says max
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return total
