"""Which sampler and which early stopping find the front soonest, in simulated time.

    python benchmarks/replay.py [--seeds 20] [--workers 4]       # our tables, the rows of `replay`
    python benchmarks/replay.py --variants                       # other rungs and samplers too
    python benchmarks/replay.py --table FOLDER --table OTHER     # tables of others
    python benchmarks/replay.py --scale [--trials 10000]         # 1,000 workers, 10,000 trials
    python benchmarks/replay.py --record                         # make the table anew (40 minutes)

Our first table, benchmarks/curves, is a search of 240 random recipes of the baseline CNN on
synthetic images (24 classes, 80 px, 699 for training), each trained for all of its 27 epochs. Every
row searches a table again with each seed; what compares are rows of one run. Of several tables, the
last output is how much sooner each row had a share than random search without stopping: the
geometric mean of the ratios of the medians. `--scale` keeps the trials in a journal, as a real
search does; a decision is a proposal, or whether a trial goes on after an epoch.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from analysis.results.hypervolume_trace import (
    budgets_table,
    median_and_quartiles,
    traces_picture,
    traces_table,
)
from search.decisions.budget import Budget
from search.decisions.stopping_rules import EarlyStoppingSettings
from search.simulation.comparison import (
    SHARES,
    ComparisonRow,
    comparison_row,
    default_pairs,
    settings_of,
)
from search.simulation.reading import read_benchmark
from search.simulation.simulator import SimulatedSearch, SimulationSettings, simulate
from search.simulation.tabular_benchmark import TabularBenchmark
from search.storage.optuna_storage import create_study

CURVES = Path(__file__).with_name("curves")
OURS = (CURVES, Path(__file__).with_name("photo_curves"))
BASELINE = "random, none"
ROWS = {
    f"{sampler}, {stopping}": (sampler, EarlyStoppingSettings(name=stopping))
    for sampler, stopping in default_pairs()
}
VARIANTS = {
    "tpe, ASHA on accuracy alone": ("tpe", EarlyStoppingSettings(name="asha", reduction=3)),
    "random, non-dominated rungs (MOASHA)": (
        "random",
        EarlyStoppingSettings(name="pareto", reduction=3, outlook=False),
    ),
    "tpe, pareto": ("tpe", EarlyStoppingSettings(name="pareto")),
    "nsga2, pareto": ("nsga2", EarlyStoppingSettings(name="pareto")),
    "gain, pareto": ("gain", EarlyStoppingSettings(name="pareto")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Searches of recorded tables, compared.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--table", type=Path, action="append")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--row", action="append", choices=[*ROWS, *VARIANTS], help="Only these.")
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
        folders = options.table or [folder for folder in OURS if folder.is_dir()]
        ways = ROWS | (VARIANTS if options.variants else {})
        if options.row:
            ways = {name: (ROWS | VARIANTS)[name] for name in options.row}
        compare_tables(folders, ways, options.seeds, options.workers, options.picture)


def compare_tables(
    folders: Sequence[Path],
    ways: Mapping[str, tuple[str, EarlyStoppingSettings]],
    seeds: int,
    workers: int,
    picture: Path,
) -> None:
    """picture: of the first table; others are beside it, with the name of the table."""
    console = Console(width=160)
    found: list[dict[str, ComparisonRow]] = []
    for folder in folders:
        table = _read(folder)
        rows = compare(folder, ways, seeds, workers)
        traces = [row.trace for row in rows.values()]
        title = f"{table.name}: {len(table.trials)} recorded recipes, {workers} workers"
        console.print(f"{title}, {seeds} seeds: simulated time, median (quartiles)")
        console.print(traces_table(traces, SHARES))
        console.print(budgets_table(traces, next(iter(rows.values())).budgets))
        named = picture.with_stem(f"{picture.stem}-{table.name}") if found else picture
        print(traces_picture(traces[:6], named, title=title))
        found.append(rows)
    if len(found) > 1 and BASELINE in found[0]:
        console.print(f"\ntimes sooner than {BASELINE}: geometric mean over {len(found)} tables")
        console.print(speed_ups(found))


def compare(
    folder: Path,
    ways: Mapping[str, tuple[str, EarlyStoppingSettings]],
    seeds: int,
    workers: int,
) -> dict[str, ComparisonRow]:
    table, rows = _read(folder), {}
    with ProcessPoolExecutor() as processes:
        for name, (sampler, stopping) in ways.items():
            way = settings_of(table, sampler, stopping, workers=workers)
            replays = list(processes.map(partial(_once, folder, way), range(seeds)))
            rows[name] = comparison_row(table, replays, name=name)
            print(f"{table.name}: {len(rows)} of {len(ways)}: {name}", file=sys.stderr, flush=True)
    return rows


def speed_ups(found: Sequence[Mapping[str, ComparisonRow]]) -> Table:
    """found: for each table, its rows by name, with BASELINE among them."""
    shown = Table("search", box=None, pad_edge=False)
    for share in SHARES:
        shown.add_column(f"to {share:.0%}", justify="right")
    for name in found[0]:
        cells = []
        for share in SHARES:
            medians = np.array([_medians(rows, name, share) for rows in found])
            lost = int(np.isinf(medians[:, 1]).sum())
            ratios = medians[:, 0] / medians[:, 1]
            mean = float(np.exp(np.log(ratios).mean())) if not lost else 0.0
            cells.append(f"{mean:.2f}" if not lost else f"never in {lost} of {len(found)}")
        shown.add_row(name, *cells)
    return shown


def _medians(rows: Mapping[str, ComparisonRow], name: str, share: float) -> list[float]:
    return [median_and_quartiles(rows[one].trace.seconds_to(share))[1] for one in (BASELINE, name)]


@cache
def _read(folder: Path) -> TabularBenchmark:
    return read_benchmark(folder)


def _once(folder: Path, way: SimulationSettings, seed: int) -> SimulatedSearch:
    return simulate(_read(folder), replace(way, seed=seed))


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
