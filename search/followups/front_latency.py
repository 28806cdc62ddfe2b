"""Latencies of the front's models, measured on this machine and kept beside the run.

A latency does not depend on the weights, so it is measured once for each architecture, and all
trials of that architecture have it.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.columns import is_missing
from analysis.runs import Run, run_recipe
from search.storage.run_lock import is_searched
from spaces.columns import LATENCY
from spaces.errors import UserError
from spaces.files import make_folder, replace_file
from spaces.recipe import Recipe

LATENCY_FILE = Path("export") / "latency.json"


def with_front_latency(
    run: Run, *, tell: Callable[[str], None] = lambda _: None
) -> tuple[Run, str]:
    """The run with `latency_ms` of the front's models, and a sentence about how it was measured.

    Measures what no earlier call on this kind of machine has measured, 5 to 20 seconds each. tell:
    called before each measurement. The sentence says what was left out: models that can't be built
    here, or everything while a search keeps this machine busy. A run whose study has latency as an
    objective keeps its own.
    """
    if not any(is_missing(value) for value in run.front()[LATENCY]):
        return run, "Latency: median of one image on one thread, measured by the search."
    # This imports torch and the ONNX packages. Other errors should not wait for them.
    from trainables.export.untrained_latency import measure_untrained_latency
    from trainables.inference.latency import machine_and_runtime
    from trainables.models.building import architecture_of

    machine = machine_and_runtime()
    known = _read(run.path).get(machine, {})
    wanted: dict[str, tuple[int, Recipe]] = {}
    left_out: list[str] = []
    for row in run.front().to_dict("records"):
        try:
            recipe = run_recipe(row)
        except UserError as error:  # of an older version, with other rules
            left_out.append(f"trial {row['trial']}: {_first_line(error)}")
            continue
        wanted.setdefault(architecture_of(recipe).key, (row["trial"], recipe))
    missing = {key: one for key, one in wanted.items() if key not in known}
    classes = run.num_classes or 0
    if missing and not classes:
        left_out.append("the run does not say how many classes it has")
    elif missing and is_searched(run.path):
        left_out.append("a search is running, and would disturb it")
    else:
        for index, (key, (trial, recipe)) in enumerate(missing.items(), start=1):
            tell(f"measuring latency: model {index} of {len(missing)}")
            try:
                latency = measure_untrained_latency(recipe, classes)
            except Exception as error:  # a model may come from a user's own function
                left_out.append(f"trial {trial}: {_first_line(error)}")
                continue
            known[key] = latency.median_ms
            remember_latency(run.path, machine, key, latency.median_ms)
    note = ""
    if any(key in known for key in wanted):
        note = f"Latency: median of one image on one thread of {machine}."
    if left_out:
        note = f"{note} Latency was not measured: {'; '.join(left_out)}.".strip()
    return replace(run, trials=_filled(run, known)), note


def remember_latency(run: Path, machine: str, architecture: str, milliseconds: float) -> None:
    """Add a latency to those beside the run. architecture: the key of `architecture_of`."""
    measured = _read(run)
    measured.setdefault(machine, {})[architecture] = milliseconds
    path = run / LATENCY_FILE
    make_folder(path.parent)
    replace_file(path, json.dumps(measured, indent=1).encode())


def _read(run: Path) -> dict[str, dict[str, float]]:
    """Milliseconds by machine and architecture; a damaged file counts as none."""
    try:
        content = json.loads((run / LATENCY_FILE).read_bytes())
        return {
            str(machine): {str(key): float(value) for key, value in latencies.items()}
            for machine, latencies in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _filled(run: Run, known: dict[str, float]) -> pd.DataFrame:
    from trainables.models.building import architecture_of

    if not known:
        return run.trials
    latencies = run.trials[LATENCY].to_numpy(dtype=float).copy()
    for index, row in enumerate(run.trials.to_dict("records")):
        if np.isnan(latencies[index]):
            with suppress(UserError):  # of an older version, with other rules
                latencies[index] = known.get(architecture_of(run_recipe(row)).key, np.nan)
    return run.trials.assign(**{LATENCY: latencies})


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
