"""The facts at the head of the page: trials, best accuracy, times, data, machine, versions."""

import numpy as np

from analysis.results.status import write_best_accuracy
from analysis.runs import Run


def run_facts(run: Run) -> dict[str, str]:
    """Name and words of each fact."""
    provenance = run.study.get("provenance") or {}
    facts = {
        "trials": run.counts_in_words(complete="finished", running="open"),
        "on the front": f"{len(run.front()):,}",
        "best accuracy": write_best_accuracy(run),
    }
    broken = run.broken_constraints()
    if broken:
        facts["constraints"] = broken
    ended = run.trials["search_seconds"].to_numpy(dtype=float)
    if np.isfinite(ended).any():
        facts["search"] = _duration(float(np.nanmax(ended)))
    seconds = run.trials["seconds"].to_numpy(dtype=float)
    facts["time in epochs"] = _duration(float(np.nansum(seconds)))
    images = provenance.get("num_images")
    if images:
        facts["images"] = ", ".join(f"{number:,} {split}" for split, number in images.items())
    if provenance.get("data_name"):
        facts["data"] = f"{provenance['data_name']}, {provenance.get('num_classes')} classes"
    if provenance.get("machine"):
        facts["machine"] = str(provenance["machine"])
    versions = provenance.get("versions") or {}
    if versions:
        facts["versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
    return facts


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
