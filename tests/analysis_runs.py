"""Run folders with made-up trials, written as a search writes them, for the tests of analysis."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.runs import EPOCH_COLUMNS, trial_columns
from spaces.columns import METRICS
from spaces.recipe import Recipe
from spaces.yaml_files import write_yaml


def trial_row(trial: int, accuracy: float, gflops: float, **changes: Any) -> dict[str, Any]:
    """One row of trials.parquet: a finished default recipe with these numbers, and changes."""
    row: dict[str, Any] = dict.fromkeys(trial_columns())
    row.update(Recipe().to_dict())
    row.update(
        trial=trial,
        state="COMPLETE",
        accuracy=accuracy,
        gmacs=gflops / 2,
        gflops=gflops,
        effective_gflops=gflops,
        gbops=gflops * 512,
        params=857_239.0,
        size_mb=3.43,
        epochs_trained=4,
        seconds=12.5,
    )
    return row | changes


def write_run(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    objectives: Mapping[str, str] | None = None,
) -> Path:
    """Write study.yaml, trials.parquet and epochs.parquet to path, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    study = {
        "name": path.name,
        "data": {"path": "/data/animals25"},
        "objectives": dict(objectives or {"accuracy": "max", "effective_gflops": "min"}),
        "seed": 0,
    }
    (path / "study.yaml").write_text(write_yaml(study), encoding="utf-8")
    trials = pd.DataFrame(list(rows), columns=list(trial_columns()))
    for name in ("unfrozen", "float_epochs"):
        trials[name] = trials[name].astype("Int64")
    trials["error"] = trials["error"].astype("str").where(trials["error"].notna(), None)
    for name in ("latency_ms", *METRICS):
        trials[name] = trials[name].astype(float)
    trials.to_parquet(path / "trials.parquet")
    epochs = [
        dict.fromkeys(EPOCH_COLUMNS, 0.5) | {"trial": trial, "epoch": epoch}
        for trial in trials["trial"]
        for epoch in (1, 2)
    ]
    pd.DataFrame(epochs, columns=list(EPOCH_COLUMNS)).to_parquet(path / "epochs.parquet")
    return path


def four_trials() -> list[dict[str, Any]]:
    """A front of trials 0, 1 and 2 with its knee at 1; 3 is dominated, 4 to 6 have no result."""
    return [
        trial_row(0, 0.60, 0.05, input_size=64),
        trial_row(1, 0.90, 0.10, model="mobilenet_v2", batch_norm=False, unfrozen=2),
        trial_row(2, 0.95, 1.00, model="resnet18", input_size=224, size_mb=44.7),
        trial_row(3, 0.55, 0.30, batch_norm=True),
        trial_row(4, 0.40, 0.30, state="PRUNED", epochs_trained=1),
        trial_row(5, np.nan, 0.30, state="FAIL", error="loss is NaN\nin epoch 2"),
        trial_row(6, np.nan, np.nan, state="RUNNING"),
    ]


def many_trials(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Finished trials of five families, with costs over three magnitudes and noisy accuracy."""
    rng = np.random.default_rng(seed)
    families = ["baseline_cnn", "mobilenet_v2", "mobilenet_v3_small", "resnet18", "efficientnet_b0"]
    rows = []
    for trial in range(count):
        gflops = 10 ** rng.uniform(-2, 0.7)
        accuracy = float(np.clip(0.75 + 0.15 * np.log10(gflops) - rng.exponential(0.1), 0.02, 0.99))
        rows.append(
            trial_row(
                trial,
                accuracy,
                gflops,
                model=families[rng.integers(len(families))],
                input_size=int(rng.choice([96, 128, 160, 224])),
                learning_rate=float(10 ** rng.uniform(-4, -1.5)),
                batch_size=int(rng.choice([16, 32, 64])),
                state="PRUNED" if rng.random() < 0.2 else "COMPLETE",
            )
        )
    return rows
