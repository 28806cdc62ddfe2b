"""How much sooner flopwise has the front that a peer ends with, and what its time goes into.

    python benchmarks/time_to_front.py [--data animals25] [--trials 16] [--epochs 4] [--workers 2]
        [--peers ray_optuna,optuna_alone,syne_tune_moasha] [--out FOLDER] [--reuse]

Everybody searches the same space (MobileNetV2 from one file of weights, its last 0 to 8 blocks
trained; batch size, learning rate, optimiser, schedule) on the same images in the same split, with
as many trials at a time, one thread each. The peers, in peers/, are written as their documentation
has it. Every search is a process of its own, one after the other; seconds are of the whole process,
imports and the start of Ray included on both sides. flopwise begins with no prepared data and an
empty cache; preparing is added to its time, making the peers' folder of links not to theirs.

    same recipes    those that ray_optuna proposed, all run to their end by flopwise (`enqueue`, no
                    early stopping): wall time, and accuracies recipe by recipe
    share           forward, backward and optimiser steps of the parts that train, in a plain loop
                    (comparison/limit.py), as a share of worker time in `same recipes`
    time to front   `flopwise search` by its own defaults, seeds 0, 1, 2 ...: when its finished
                    trials first had the hypervolume of all that a peer finished. With one input
                    size all recipes cost the same, and this is the time to the peer's best
                    accuracy; --input-sizes 64 80 96 gives fronts of several points. A seed has a
                    share of the longest peer's time (--patience); what it has not reached by then
                    it never did

Not covered: GPUs, several machines, images that change from epoch to epoch (augmentation), accuracy
on images that nothing was chosen by. Peers get one seed, for a run takes them minutes.
--reuse takes a peer's result from an earlier run with the same --out and settings. --data:
animals25 is ../shared/data/animals25 beside this checkout, `generated` draws images, else a folder
of class folders.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.figures import Volume, same_recipes, share_of_pure_steps, time_to_volume
from comparison.images import ANIMALS, describe, link_split, weights_file, write_generated
from comparison.limit import Counts, pure_seconds
from comparison.searches import (
    FLOPWISE,
    Search,
    SearchFailedError,
    Trained,
    flopwise_space,
    run_flopwise,
    run_peer,
    run_process,
    search_from,
)
from rich.console import Console
from rich.table import Table

from spaces.recipe import recipe_from
from trainables.cost import recipe_cost
from trainables.data.dataset import ImageData, open_data

RAY, OPTUNA, SYNE_TUNE = "ray_optuna", "optuna_alone", "syne_tune_moasha"
PEERS = (RAY, OPTUNA, SYNE_TUNE)
GENERATED_SIZE = 224
console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is the same for every search of this run."""

    data: ImageData
    prepared_seconds: float
    weights: Path
    images: Path
    out: Path
    options: argparse.Namespace

    @property
    def space(self) -> dict[str, Any]:
        return flopwise_space(self.weights, self.options.input_sizes, self.options.epochs)

    def study(self, name: str, **lines: Any) -> dict[str, Any]:
        """A study file's content."""
        return {
            "name": name,
            "data": {"path": str(self.data.path)},
            "space": self.space,
            "objectives": {"accuracy": "max", "gflops": "min"},
            **lines,
        }


def main() -> None:
    options = read_options()
    options.out.mkdir(parents=True, exist_ok=True)
    bench = prepare(options)
    figures: dict[str, Any] = {"setting": setting(bench)}
    console.print(f"{figures['setting']['what']}; {figures['setting']['machine']}")
    peers = [peer for name in options.peers if (peer := peer_search(bench, name)) is not None]
    figures["peers"] = {peer.name: peer.to_dict() for peer in peers}
    save(bench, figures)
    theirs = next((peer for peer in peers if peer.name == RAY), None)
    if theirs is not None:
        ours = search_same_recipes(bench, theirs)
        figures["same_recipes"] = same_recipes(theirs, ours)
        figures["share"] = share(bench, ours)
        save(bench, figures)
        print_same_recipes(figures["same_recipes"], figures["share"])
    if peers and options.seeds:
        figures["time_to_front"] = time_to_front(bench, peers)
        save(bench, figures)
        print_time_to_front(figures["time_to_front"])
    say(f"every figure: {options.out / 'figures.json'}")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time to a peer's front, and where it goes.")
    parser.add_argument("--data", default="animals25", help="animals25, generated, or a folder")
    parser.add_argument("--classes", type=int, default=25, help="of generated images")
    parser.add_argument("--trials", type=int, default=16, help="of each peer")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--input-sizes", type=int, nargs="+", default=[96])
    parser.add_argument("--seeds", type=int, default=3, help="of flopwise; 0: no time to front")
    parser.add_argument("--patience", type=float, default=0.25)
    parser.add_argument("--peers", type=_peers, default=list(PEERS))
    parser.add_argument("--syne-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--reuse", action="store_true")
    options = parser.parse_args()
    # Not resolved: what a virtual environment's link points to is not that environment.
    options.syne_python = options.syne_python.absolute()
    options.out = Path(options.out or tempfile.mkdtemp(prefix="time-to-front-")).resolve()
    return options


def _peers(listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",") if name.strip()]
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name} is not one of {', '.join(PEERS)}")
    return names


def prepare(options: argparse.Namespace) -> Bench:
    """Prepare the images anew, on the clock, and lay out the same split for the peers."""
    source = find_source(options)
    prepared = options.out / "data"
    shutil.rmtree(prepared, ignore_errors=True)
    size = str(max(options.input_sizes))
    say("preparing images")
    command = [FLOPWISE, "data", "prepare", source, prepared, "--size", size]
    _, seconds = run_process(command, options.out / "prepare.log")
    data = open_data(prepared)
    return Bench(
        data=data,
        prepared_seconds=seconds,
        weights=weights_file(options.out),
        images=link_split(source, data, options.out / "images"),
        out=options.out,
        options=options,
    )


def find_source(options: argparse.Namespace) -> Path:
    if options.data == "generated":
        say("drawing images")
        folder = options.out / f"generated-{options.classes}"
        return write_generated(folder, classes=options.classes, size=GENERATED_SIZE)
    source = ANIMALS if options.data == "animals25" else Path(options.data).resolve()
    if not source.is_dir():
        console.print(f"skipped: {source} is absent (--data generated needs no photographs)")
        sys.exit(0)
    return source


def setting(bench: Bench) -> dict[str, Any]:
    options = bench.options
    packages = ("flopwise", "ray", "optuna", "torch", "torchvision")
    generated = options.data == "generated"
    kind = "generated images" if generated else bench.data.name
    what = f"{kind}: {describe(bench.data, options.input_sizes, bench.weights)}"
    return {
        "what": f"{what}; {options.trials} trials of {options.epochs} epochs for each peer,"
        f" {options.workers} at a time",
        "machine": f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "synthetic": generated,
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "task": peer_task(bench),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def peer_task(bench: Bench) -> dict[str, Any]:
    """A peer's command line."""
    options = bench.options
    return {
        "images": str(bench.images),
        "weights": str(bench.weights),
        "input_sizes": options.input_sizes,
        "trials": options.trials,
        "epochs": options.epochs,
        "workers": options.workers,
        "seed": 0,
    }


def peer_search(bench: Bench, name: str) -> Search | None:
    """Run a peer, or take its result from before; None, with a line, where it can't be run."""
    folder = bench.out / "peers"
    kept = folder / f"{name}.json"
    made_with = {"task": peer_task(bench), "data": bench.data.digest}
    if bench.options.reuse and kept.exists():
        content = json.loads(kept.read_text())
        if content["made_with"] == made_with:
            say(f"{name}: {content['search']['seconds']:.0f} s, from an earlier run")
            return search_from(content["search"])
        say(f"{name}: what is kept was made with other settings")
    python = bench.options.syne_python if name == SYNE_TUNE else Path(sys.executable)
    if name == SYNE_TUNE and (missing := _missing_syne_tune(python)):
        say(f"{name}: left out: {missing} (see --syne-python in benchmarks/README.md)")
        return None
    say(f"{name}: {bench.options.trials} trials begin")
    try:
        search = run_peer(name, python, peer_task(bench), folder)
    except SearchFailedError as error:
        say(f"{name}: left out: {error}")
        return None
    kept.write_text(json.dumps({"made_with": made_with, "search": search.to_dict()}, indent=1))
    say(f"{name}: {search.seconds:.0f} s")
    return search


def _missing_syne_tune(python: Path) -> str:
    command = [str(python), "-c", "import torch, torchvision, syne_tune"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{python}: {error.strerror}"
    return (done.stderr.strip().splitlines() or [f"{python} failed"])[-1] if done.returncode else ""


def search_same_recipes(bench: Bench, peer: Search) -> Search:
    """Have flopwise run what the peer proposed, all of it, to the last epoch."""
    enqueue = [_fields(bench, trial) for trial in peer.trials]
    study = bench.study(
        "same-recipes",
        early_stopping={"name": "none"},
        budget={"trials": len(enqueue)},
    )
    study["space"]["enqueue"] = enqueue
    say(f"flopwise: the {len(enqueue)} recipes of {peer.name}")
    return _flopwise(bench, study)


def _fields(bench: Bench, trial: Trained) -> dict[str, Any]:
    """The recipe that flopwise knows a peer's trial by."""
    fixed = {name: bench.space[name] for name in ("model", "weights", "epochs")}
    return {**fixed, **trial.recipe}


def _flopwise(bench: Bench, study: Mapping[str, Any]) -> Search:
    try:
        search = run_flopwise(
            study,
            bench.out / "flopwise" / study["name"],
            workers=bench.options.workers,
            prepared_seconds=bench.prepared_seconds,
        )
    except SearchFailedError as error:
        sys.exit(str(error))
    say(f"flopwise: {search.seconds:.0f} s, {len(search.trials)} trials")
    return search


def share(bench: Bench, ours: Search) -> dict[str, Any]:
    say("pure steps of the same recipes")
    counts = Counts(
        train=len(bench.data.rows("train")),
        validation=len(bench.data.rows("validation")),
        classes=len(bench.data.classes),
    )
    recipes = [_fields(bench, trial) for trial in ours.trials]
    pure = pure_seconds(recipes, counts, workers=bench.options.workers)
    return share_of_pure_steps(pure, ours, bench.options.workers)


def time_to_front(bench: Bench, peers: list[Search]) -> dict[str, Any]:
    """Run flopwise by its defaults, seed after seed: when it had each peer's hypervolume."""
    hours = max(peer.seconds for peer in peers) * bench.options.patience / 3600
    ours = []
    for seed in range(bench.options.seeds):
        say(f"flopwise: seed {seed}, for {3600 * hours:.0f} s at most")
        study = bench.study(f"seed-{seed}", seed=seed, budget={"hours": hours})
        ours.append(_flopwise(bench, study))
    largest = _fields(bench, peers[0].trials[0]) | {"input_size": max(bench.options.input_sizes)}
    volume = Volume(recipe_cost(recipe_from(largest), num_classes=len(bench.data.classes)).gflops)
    return {
        "patience_seconds": 3600 * hours,
        "searches": [search.to_dict() for search in ours],
        "by_peer": {peer.name: time_to_volume(peer, ours, volume) for peer in peers},
    }


def print_same_recipes(figures: Mapping[str, Any], share: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = f"The same {figures['recipes']} recipes, none stopped early"
    for name in ("", "s", "s before a trial", "mean accuracy"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row(RAY, *_cells(figures, "peer"))
    table.add_row("flopwise", *_cells(figures, "flopwise"))
    console.print(table)
    console.print(
        f"{figures['times_faster']:.1f} times faster, preparing the data"
        f" ({figures['flopwise_prepare_seconds']:.1f} s) counted. Accuracies by recipe,"
        f" ours - theirs: {100 * figures['mean_difference']:+.1f} points on average, from"
        f" {100 * figures['largest_difference_down']:+.1f} to"
        f" {100 * figures['largest_difference_up']:+.1f}"
    )
    console.print(
        f"pure steps: {share['share_of_whole']:.0%} of worker time"
        f" ({share['share_of_whole_without_validation']:.0%} without validation),"
        f" {share['share_first_to_last_trial']:.0%} from the first trial to the last,"
        f" {share['share_of_epochs']:.0%} of the time in epochs"
    )


def _cells(figures: Mapping[str, Any], who: str) -> list[str]:
    return [
        f"{figures[f'{who}_seconds']:.1f}",
        f"{figures[f'{who}_seconds_before_first_trial']:.1f}",
        f"{figures[f'mean_accuracy_{who}']:.1%}",
    ]


def print_time_to_front(figures: Mapping[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.title = "Time to the peer's final hypervolume"
    for name in ("peer", "its best", "its s", "had it at s", "flopwise s", "by seed", "times less"):
        table.add_column(name, justify="left" if name == "peer" else "right")
    for name, row in figures["by_peer"].items():
        table.add_row(
            name,
            f"{row['peer_best_accuracy']:.1%}",
            f"{row['peer_seconds']:.0f}",
            _seconds(row["peer_seconds_until_it_had_this"]),
            _seconds(row["flopwise_median_seconds"]),
            " ".join(_seconds(value) for value in row["flopwise_seconds"]),
            f"{row['times_less']:.1f}",
        )
    console.print(table)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


def save(bench: Bench, figures: Mapping[str, Any]) -> None:
    (bench.out / "figures.json").write_text(json.dumps(figures, indent=1))


def say(line: str) -> None:
    """A progress line, at once also where the output is a file."""
    console.print(line, markup=False, soft_wrap=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
