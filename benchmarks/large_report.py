"""What a report of ten thousand trials takes: seconds, megabytes, and the time until it answers.

    python benchmarks/large_report.py [--trials 10000] [--epochs 10] [--out FOLDER]

Draws a run as a large search would leave it: five families at four input sizes, int8 and float, a
fifth of the trials stopped early, every epoch of every trial, the study with its space. Then the
report and its pictures, as `flopwise report` writes them for a run whose checkpoints are gone, and
the page in Chromium where there is one: seconds until the front is drawn, and from the choice of
another cost until it is drawn again. Made-up numbers: it measures the report, and finds nothing.
"""

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import PRUNED
from analysis.runs import EPOCH_COLUMNS, trial_columns
from search.followups.report import make_report
from spaces.recipe import Recipe
from spaces.yaml_files import write_yaml

FAMILIES = {  # GMACs at 224 px, millions of parameters
    "mobilenet_v2": (0.30, 3.5),
    "mobilenet_v3_small": (0.06, 2.5),
    "mobilenet_v3_large": (0.22, 5.5),
    "resnet18": (1.81, 11.7),
    "efficientnet_b0": (0.39, 5.3),
}
SIZES = (96, 128, 160, 224)
SPACE = {
    "model": list(FAMILIES),
    "input_size": list(SIZES),
    "unfrozen": {"int": [0, 8]},
    "batch_size": [16, 32, 64],
    "optimizer": ["adam", "adamw", "sgd", "rmsprop"],
    "learning_rate": {"log": [1.0e-4, 3.0e-2]},
    "scheduler": ["constant", "cosine", "onecycle"],
    "qat": [False, True],
}


def draw_run(folder: Path, num_trials: int, num_epochs: int) -> None:
    """Write study.yaml, trials.parquet and epochs.parquet."""
    rng = np.random.default_rng(0)
    trials, epochs = [], []
    for trial in range(num_trials):
        row = _draw_trial(rng, trial, num_epochs)
        curve = row["accuracy"] * (1 - np.exp(-np.arange(1, row["epochs_trained"] + 1) / 2))
        epochs += [
            (trial, epoch, 3 - 2 * value, value + 0.02, 3.1 - 2 * value, value, 1e-3, 4.0)
            for epoch, value in enumerate(curve, start=1)
        ]
        if row["state"] == PRUNED:
            row["accuracy"] = None
        trials.append(row)
    folder.mkdir(parents=True)
    study = {
        "name": "large",
        "data": {"path": "nowhere"},
        "space": SPACE,
        "objectives": {"accuracy": "max", "effective_gflops": "min"},
        "seed": 0,
    }
    (folder / "study.yaml").write_text(write_yaml(study))
    table = pd.DataFrame(trials, columns=list(trial_columns()))
    table = table.astype({"unfrozen": "Int64", "float_epochs": "Int64", "latency_ms": float})
    table.to_parquet(folder / "trials.parquet")
    pd.DataFrame(epochs, columns=list(EPOCH_COLUMNS)).to_parquet(folder / "epochs.parquet")


def _draw_trial(rng: np.random.Generator, trial: int, num_epochs: int) -> dict[str, Any]:
    model = str(rng.choice(list(FAMILIES)))
    size, qat = int(rng.choice(SIZES)), bool(rng.integers(2))
    rate = float(10 ** rng.uniform(-4, -1.5))
    gmacs_224, millions = FAMILIES[model]
    gmacs = gmacs_224 * (size / 224) ** 2
    recipe = Recipe(
        model=model,
        input_size=size,
        qat=qat,
        unfrozen=int(rng.integers(9)),
        batch_size=int(rng.choice([16, 32, 64])),
        optimizer=str(rng.choice(SPACE["optimizer"])),  # pyright: ignore[reportArgumentType]
        learning_rate=rate,
        scheduler=str(rng.choice(SPACE["scheduler"])),  # pyright: ignore[reportArgumentType]
        epochs=num_epochs,
        seed=trial,
    )
    best = 0.72 + 0.09 * np.log10(gmacs) - 0.06 * abs(np.log10(rate) + 2.7) - 0.01 * qat
    stopped = rng.random() < 0.2
    return {
        **recipe.to_dict(),
        "trial": trial,
        "state": PRUNED if stopped else "COMPLETE",
        "accuracy": float(np.clip(best + 0.2 - rng.exponential(0.06), 0.02, 0.99)),
        "gmacs": gmacs,
        "gflops": 2 * gmacs,
        "effective_gflops": 2 * gmacs / (16 if qat else 1),
        "gbops": gmacs * (64 if qat else 1024),
        "params": millions * 1e6,
        "size_mb": millions * (1 if qat else 4),
        "epochs_trained": int(rng.integers(1, num_epochs)) if stopped else num_epochs,
        "seconds": 4.0 * num_epochs,
        "search_seconds": 3.0 * trial,
    }


def time_in_browser(page: Path) -> str:
    """Open the page in Chromium, offline, and choose another cost."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "browser: not measured, playwright is not installed"
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        return "browser: not measured, there is no Chromium"
    drawn = "#front.js-plotly-plot .main-svg"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        began = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector(drawn)
        opened = time.perf_counter() - began
        # The handler draws before it returns.
        switched = tab.evaluate(
            """() => {
                const choice = document.getElementById("cost"), began = performance.now();
                choice.value = "size_mb";
                choice.dispatchEvent(new Event("change"));
                return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(
                    () => done((performance.now() - began) / 1000))));
            }"""
        )
        browser.close()
    return f"browser: front drawn after {opened:.1f} s, another cost after {switched:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    out = (options.out or Path(tempfile.mkdtemp())).resolve()
    run = out / "large"
    draw_run(run, options.trials, options.epochs)
    began = time.perf_counter()
    made = make_report(run, latency=False)
    seconds = time.perf_counter() - began
    megabytes = made.page.stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{options.trials:,} trials, {options.epochs} epochs each: {run}")
    print(f"report and {len(made.pictures)} pictures: {seconds:.1f} s, {megabytes:.1f} MB,")
    print(f"  at most {peak:.2f} GB of memory")
    print(time_in_browser(made.page))


if __name__ == "__main__":
    main()
