"""The facts at the head of the page: trials, best accuracy, times, data, machine, versions."""

import numpy as np

from analysis.columns import in_a_sentence
from analysis.results.guessing import describe_guess
from analysis.results.status import write_best
from analysis.results.time_spent import write_duration
from analysis.runs import Run


def run_facts(run: Run) -> dict[str, str]:
    """Name and words of each fact."""
    provenance = run.study.get("provenance") or {}
    facts = {
        "trials": run.counts_in_words(),
        "on the front": f"{len(run.front()):,}",
        f"best {in_a_sentence(run.metric)}": write_best(run),
    }
    guess = describe_guess(run)
    if guess:
        facts["guessing"] = guess
    broken = run.broken_constraints()
    if broken:
        facts["constraints"] = broken
    ended = run.trials["search_seconds"].to_numpy(dtype=float)
    if np.isfinite(ended).any():
        facts["search"] = write_duration(float(np.nanmax(ended)))
    seconds = run.trials["seconds"].to_numpy(dtype=float)
    facts["training time"] = write_duration(float(np.nansum(seconds)))
    images = provenance.get("num_images")
    if images:
        facts["images"] = ", ".join(f"{number:,} {split}" for split, number in images.items())
    if provenance.get("data_name"):
        facts["data"] = f"{provenance['data_name']}, {provenance.get('num_classes')} classes"
    if provenance.get("warm_start"):
        facts["warm start"] = str(provenance["warm_start"])
    if provenance.get("machine"):
        facts["machine"] = str(provenance["machine"])
    versions = provenance.get("versions") or {}
    if versions:
        facts["versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
    return facts
