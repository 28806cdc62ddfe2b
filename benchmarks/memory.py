"""Memory of trials and of the whole machine, and how time and memory grow with the images.

    python benchmarks/memory.py [--concurrent 2 4] [--growth 1 4 16] [--peer] [--out FOLDER]

MobileNetV2 at 96 px, the same eight recipes in every row (unfrozen 0 to 8, each for --epochs),
through `flopwise search` with an empty cache and no early stopping; memory is sampled four times a
second from /proc (comparison/memory_use.py): PSS, so that what processes share counts once.

    concurrent   so many trials at a time on --classes classes of generated images, whether or not
                 there are as many cores: memory is what this is about. --peer adds ray_optuna from
                 peers/, which proposes recipes of its own from the same space
    growth       so many times the classes, 26 to 60 images each, with two trials at a time; the
                 head grows with the classes, by 1,281 parameters for each. Preparing is told apart,
                 drawing the images is not counted

Linux only. Not covered: page cache that no process maps, GPUs.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from comparison.images import link_split, weights_file, write_generated
from comparison.memory_use import MemoryUse, measure_memory
from comparison.searches import FLOPWISE, PEERS, flopwise_environment, flopwise_space
from rich.console import Console
from rich.table import Table

from spaces.yaml_files import write_yaml
from trainables.data.dataset import open_data

INPUT_SIZE = 96
UNFROZEN = (0, 1, 2, 3, 4, 5, 6, 8)
DRAWN_SIZE = 224
console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory, and growth with the images.")
    parser.add_argument("--concurrent", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--growth", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--classes", type=int, default=24, help="of 1 x the images; 36 at most")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--recipes", type=int, default=len(UNFROZEN))
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    out = Path(options.out or tempfile.mkdtemp(prefix="memory-")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"generated images, MobileNetV2, {INPUT_SIZE} px, {options.epochs} epochs")
    rows = []
    for workers in options.concurrent:
        rows.append(measure_row(out, options, classes=options.classes, workers=workers))
        if options.peer:
            rows.append(measure_peer(out, options, workers))
    if rows:
        print_table("Trials at a time", rows)
    grown = [
        measure_row(out, options, classes=options.classes * times, workers=2)
        for times in options.growth
    ]
    if grown:
        print_table("SeededTraces with the images, 2 trials at a time", grown)
    figures = {"options": {**vars(options), "out": str(out)}, "concurrent": rows, "growth": grown}
    (out / "memory.json").write_text(json.dumps(figures, indent=1))
    console.print(f"every figure: {out / 'memory.json'}", soft_wrap=True)


def measure_row(
    out: Path, options: argparse.Namespace, *, classes: int, workers: int
) -> dict[str, Any]:
    """Prepare and search, both measured."""
    name = f"{classes}-classes-{workers}-workers"
    say(f"{classes} classes, {workers} trials at a time")
    source = write_generated(out / f"generated-{classes}", classes=classes, size=DRAWN_SIZE)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    prepare = [FLOPWISE, "data", "prepare", source, folder / "data", "--size", str(INPUT_SIZE)]
    preparing = measure_memory(prepare, folder / "prepare.log")
    file = folder / "study.yaml"
    file.write_text(write_yaml(study(out, options)))
    environment = flopwise_environment(folder, workers)
    command = [FLOPWISE, "search", file]
    searching = measure_memory(command, folder / "search.log", environment)
    return {
        "name": "flopwise",
        "workers": workers,
        "images": len(open_data(folder / "data")),
        "prepare_seconds": preparing.seconds,
        "prepare_pss_mb": preparing.node_pss_mb,
        "data_mb": _megabytes(folder / "data"),
        "cache_mb": _megabytes(folder / "cache"),
        **_search_columns(searching),
    }


def study(out: Path, options: argparse.Namespace) -> dict[str, Any]:
    space = flopwise_space(weights_file(out), [INPUT_SIZE], options.epochs)
    fixed = {name: space[name] for name in ("model", "weights", "epochs")}
    space["enqueue"] = [
        {**fixed, "input_size": INPUT_SIZE, "batch_size": 32, "unfrozen": unfrozen}
        for unfrozen in UNFROZEN[: options.recipes]
    ]
    return {
        "name": "memory",
        "data": {"path": "data"},
        "space": space,
        "early_stopping": {"name": "none"},
        "budget": {"trials": options.recipes},
    }


def measure_peer(out: Path, options: argparse.Namespace, workers: int) -> dict[str, Any]:
    """The same number of trials through peers/ray_optuna.py."""
    say(f"ray_optuna, {workers} trials at a time")
    data = open_data(out / f"{options.classes}-classes-{workers}-workers" / "data")
    images = link_split(out / f"generated-{options.classes}", data, out / "images")
    task: dict[str, object] = {
        "images": images,
        "weights": weights_file(out),
        "trials": options.recipes,
        "epochs": options.epochs,
        "workers": workers,
        "out": out / "peer.json",
    }
    command = [sys.executable, str(PEERS / "ray_optuna.py")]
    for option, value in task.items():
        command += [f"--{option}", str(value)]
    use = measure_memory(command, out / f"ray_optuna-{workers}.log")
    return {"name": "ray_optuna", "workers": workers, "images": len(data), **_search_columns(use)}


def _search_columns(use: MemoryUse) -> dict[str, Any]:
    return {f"search_{name}": value for name, value in asdict(use).items()}


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    columns = {
        "trials": "search_most_trials",
        "images": "images",
        "prepare s": "prepare_seconds",
        "search s": "search_seconds",
        "trial MB": "search_trial_pss_mb",
        "its RSS": "search_trial_rss_mb",
        "all MB": "search_node_pss_mb",
        "preparing MB": "prepare_pss_mb",
        "data MB": "data_mb",
        "cache MB": "cache_mb",
    }
    table.add_column("")
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in rows:
        values = [row.get(column) for column in columns.values()]
        table.add_row(row["name"], *("" if v is None else f"{v:,.0f}" for v in values))
    console.print(table)


def say(line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
