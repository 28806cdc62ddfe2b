"""Memory and disk that a search takes, estimated from its probes, and what the machine has."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from search.planning.candidates import Candidate
from search.planning.probe_processes import Probed
from spaces.columns import FloatArray
from spaces.recipe import Recipe
from trainables.data.dataset import ImageData

# Measured: the memory of Ray's own processes and the driver.
RAY_BYTES = 1.2e9


def worker_bytes(candidates: Sequence[Candidate], took: Probed) -> tuple[float, float]:
    """Memory of a worker with its largest recipe, without shared memory; and GPU memory."""
    images = [(probe.recipe, probe.train_images) for probe in took.probes]
    memory = largest_bytes(candidates, images, [probe.memory_bytes for probe in took.probes])
    gpu = largest_bytes(candidates, images, [probe.gpu_bytes for probe in took.probes])
    return took.idle_bytes + memory, gpu


def largest_bytes(
    candidates: Sequence[Candidate], probed: Sequence[tuple[Recipe, int]], measured: Sequence[int]
) -> float:
    """Bytes of the largest candidate, estimated from probes.

    probed: each probe's recipe and number of images. measured: their bytes.
    """
    if not any(measured):
        return 0.0
    amounts = [
        (1.0, _activations(recipe, min(recipe.batch_size, images))) for recipe, images in probed
    ]
    fit = fit_parts(np.array(amounts), np.maximum(np.array(measured, dtype=float), 1.0))
    return max(
        float(fit.at(np.array((1.0, _activations(recipe, recipe.batch_size)))))
        * max(1.0, fit.ratio_of([other.model == recipe.model for other, _ in probed]))
        for recipe in (candidate.recipe for candidate in candidates)
    )


def _activations(recipe: Recipe, batch_size: int) -> float:
    """The amount that memory grows with, for recipes of one model."""
    return batch_size * recipe.input_size**2 * recipe.width


def checkpoint_bytes(candidates: Sequence[Candidate], took: Probed) -> float:
    """Bytes of an average candidate's checkpoint, with its optimiser's state."""
    size_mb = {candidate.recipe.key: candidate.cost.size_mb for candidate in candidates}
    per_mb = [probe.checkpoint_bytes / size_mb[probe.recipe.key] for probe in took.probes]
    return float(np.mean(per_mb)) * sum(size_mb.values()) / len(size_mb)


def resized_bytes(data: ImageData, candidates: Sequence[Candidate]) -> int:
    """Bytes of resized images that are not in the cache yet."""
    sizes = {candidate.recipe.input_size for candidate in candidates} - {data.size}
    missing = [size for size in sizes if not data.file_at_size(size).exists()]
    return sum(len(data) * size * size * 3 for size in missing)


def machine_bytes() -> int:
    """Memory of this machine, or the limit of its container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # a container without a limit says max
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Measurements, in bytes, fitted as a sum of parts."""

    unit_of: FloatArray
    """(parts,) what one unit of each part takes; none is negative."""
    ratios: FloatArray
    """(measurements,) measured / fitted."""

    def at(self, amounts: FloatArray) -> FloatArray:
        """What (..., parts) amounts take."""
        return amounts @ self.unit_of

    def ratio_of(self, chosen: Sequence[bool]) -> float:
        """The geometric mean of the ratios of chosen measurements; 1 if none is chosen."""
        ratios = self.ratios[np.array(chosen, dtype=bool)]
        return float(np.exp(np.log(ratios).mean())) if len(ratios) else 1.0


def fit_parts(amounts: FloatArray, measured: FloatArray) -> Fit:
    """Fit measured = amounts @ x, x >= 0, by least squares of relative errors.

    amounts: (measurements, parts), at least one above 0 in each row; measured: above 0.
    """
    # Scale the parts, so that very different units weigh the same in the solver.
    scale = np.maximum(amounts.max(axis=0), np.finfo(float).tiny)
    solution, _ = nnls(amounts / scale / measured[:, None], np.ones(len(measured)))
    unit_of = solution / scale
    return Fit(unit_of=unit_of, ratios=measured / (amounts @ unit_of))
