"""Which sampler and which early stopping find the front soonest, in simulated time.

    python benchmarks/replay.py [--seeds 20] [--workers 4]       # the rows of the README's table
    python benchmarks/replay.py --scale [--trials 10000]         # 1,000 workers, 10,000 trials
    python benchmarks/replay.py --record                         # make the table anew (40 minutes)

The table, benchmarks/curves, is a search of 240 random recipes of the baseline CNN on synthetic
images (24 classes, 80 px, 699 for training), each trained for all of its 27 epochs. Every row
searches it again with each seed; what compares are rows of one run. `--scale` keeps the trials in a
journal, as a real search does; a decision is a proposal, or whether a trial goes on after an epoch.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from analysis.results.hypervolume_trace import SeededTraces, traces_picture, traces_table
from search.decisions.budget import Budget
from search.decisions.stopping_rules import EarlyStoppingSettings
from search.simulation.simulator import SimulatedSearch, SimulationSettings, simulate, traces_of
from search.simulation.tabular_benchmark import read_benchmark
from search.storage.optuna_storage import create_study

CURVES = Path(__file__).with_name("curves")
BUDGET = Budget(trials=480)
NONE = EarlyStoppingSettings(name="none")
PLAIN = {"reduction": 3, "outlook": False}
ROWS = {
    "flopwise: tpe, pareto": ("tpe", EarlyStoppingSettings()),
    "tpe, no stopping": ("tpe", NONE),
    "random, no stopping": ("random", NONE),
    "tpe, ASHA on accuracy alone": ("tpe", EarlyStoppingSettings(name="asha", **PLAIN)),
    "random, non-dominated rungs (MOASHA)": ("random", EarlyStoppingSettings(**PLAIN)),
    "random, pareto": ("random", EarlyStoppingSettings()),
    "nsga2, pareto": ("nsga2", EarlyStoppingSettings()),
    "tpe, pareto without outlook": ("tpe", EarlyStoppingSettings(outlook=False)),
    "tpe, pareto, reduction 3": ("tpe", EarlyStoppingSettings(reduction=3)),
    "tpe, pareto, min_epochs 3": ("tpe", EarlyStoppingSettings(min_epochs=3)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Searches of a recorded table, compared.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--picture", type=Path, default=Path("replay.png"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.record:
        record()
    elif options.scale:
        measure_scale(options.trials)
    else:
        compare(options.seeds, options.workers, options.picture)


def compare(seeds: int, workers: int, picture: Path) -> None:
    traces: list[SeededTraces] = []
    with ProcessPoolExecutor() as processes:
        for name, (sampler, stopping) in ROWS.items():
            way = SimulationSettings(
                sampler=sampler, early_stopping=stopping, workers=workers, budget=BUDGET
            )
            traces.append(traces_of(name, list(processes.map(partial(_once, way), range(seeds)))))
            print(f"{len(traces)} of {len(ROWS)}: {name}", file=sys.stderr, flush=True)
    console = Console(width=140)
    console.print(f"{seeds} seeds, {workers} workers: simulated seconds, median (quartiles)")
    console.print(traces_table(traces, [0.8, 0.9, 0.95]))
    print(traces_picture(traces[:5], picture, title=f"240 recorded recipes, {workers} workers"))


def _once(way: SimulationSettings, seed: int) -> SimulatedSearch:
    return simulate(read_benchmark(CURVES), replace(way, seed=seed))


def measure_scale(trials: int) -> None:
    table = read_benchmark(CURVES)
    way = SimulationSettings(workers=1000, budget=Budget(trials=trials))
    with tempfile.TemporaryDirectory() as folder:
        study = create_study(Path(folder), "scale", table.objectives.optuna_directions)
        done = simulate(table, way, study=study)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(
        f"{trials} trials on {way.workers} workers: {done.decisions} decisions in"
        f" {done.driver_seconds:.0f} s of the driver's own time,"
        f" {done.decisions / done.driver_seconds:.0f} a second; {done.counts};"
        f" {done.seconds:.0f} simulated seconds; peak memory {megabytes:.0f} MB"
    )


def record() -> None:
    """Train the table's recipes: 240 x 27 epochs."""
    flopwise = Path(sys.executable).with_name("flopwise")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "curves" / "data"
        subprocess.run(
            [flopwise, "data", "demo", data, "--classes", "24", "--size", "80"], check=True
        )
        study = Path(folder) / "study.yaml"
        shutil.copyfile(CURVES / "study.yaml", study)
        subprocess.run([flopwise, "search", study], check=True)
        run = Path(folder) / "curves" / "runs" / "recorded"
        for name in ("study.yaml", "trials.parquet", "epochs.parquet"):
            shutil.copyfile(run / name, CURVES / name)


if __name__ == "__main__":
    main()
