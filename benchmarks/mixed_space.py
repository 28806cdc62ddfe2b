"""Searches of a space with three unlike models on real photographs, against a full reference.

    python benchmarks/mixed_space.py [--out OUT] [--seeds 3] [--sampler gain] [--stopping gain] ...

Needs ../shared/data/animals25 and ../shared/weights beside this checkout; says so and ends where
they are absent. The space: MobileNetV2 from ImageNet weights with its last 0 to 6 blocks trained,
MobileNetV3-Small and the baseline CNN from random weights, at 96, 160 and 224 px, 4 epochs.

    reference    MobileNetV2's head alone at each size, and five more random recipes of each model
                 and size, all trained to their end. Its front's hypervolume is 100 %
    by hand      the seven recipes that anybody would try: MobileNetV2 at the three sizes with the
                 head alone and with two blocks, with Adam and a cosine schedule
    searches     of 16 trials, pair by pair of --sampler and --stopping (given as often as wanted,
                 defaults first), seed after seed

Each is a `flopwise search` of its own with an empty cache, two trials at a time, one core each.
Seconds count from the start of the process, and end with a trial. Preparing the images is not in
them. What is in OUT already is not run again.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from comparison.images import ANIMALS, WEIGHTS
from comparison.searches import FLOPWISE, Search, run_flopwise, run_process, search_from
from rich.console import Console
from rich.table import Table

from analysis.pareto.front import Box, FloatArray, pareto_front
from analysis.results.hypervolume_trace import SeededTraces, traces_picture, traces_table
from search.simulation.comparison import default_pair
from spaces.recipe import Recipe
from spaces.space_file import parse_space
from spaces.suggesters import RandomTrial

SIZES, EPOCHS, WORKERS = (96, 160, 224), 4, 2
SPACE = {
    "model": ["baseline_cnn", "mobilenet_v2", "mobilenet_v3_small"],
    "weights": {"fixed": str(WEIGHTS), "when": {"model": "mobilenet_v2"}},
    "unfrozen": {"int": [0, 6], "when": {"model": "mobilenet_v2"}},
    "input_size": list(SIZES),
    "batch_size": [16, 32, 64],
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"log": [1e-4, 3e-2]},
    "scheduler": ["constant", "cosine"],
    "epochs": EPOCHS,
}
PRETRAINED = Recipe(
    model="mobilenet_v2",
    weights=str(WEIGHTS),
    unfrozen=0,
    batch_size=32,
    optimizer="adam",
    learning_rate=1e-3,
    scheduler="cosine",
    epochs=EPOCHS,
)
NUM_RANDOM = 5
SHARES = (0.8, 0.9, 0.95, 0.99)


def main() -> None:
    options = read_options()
    if not ANIMALS.is_dir() or not WEIGHTS.is_file():
        sys.exit(f"skipped: {ANIMALS} or {WEIGHTS} is absent")
    out = Path(options.out or tempfile.mkdtemp(prefix="mixed-space-")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "data").is_dir():
        run_process([FLOPWISE, "data", "prepare", ANIMALS, out / "data"], out / "prepare.log")
    searches = {
        (pair, seed): search(
            out,
            f"{'-'.join(pair)}-{seed}",
            sampler={"name": pair[0]},
            early_stopping={"name": pair[1]},
            seed=seed,
            budget={"trials": options.trials},
        )
        for seed in range(options.seeds)
        for pair in pairs(options)
    }
    by_hand = search_list(out, "by-hand", seven_by_hand())
    reference = search_list(out, "reference", reference_recipes())
    tell(out, searches, by_hand, reference)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Searches of a mixed space, on photographs.")
    parser.add_argument("--out", type=Path, default=None, help="Kept, to go on after a break.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--sampler", action="append")
    parser.add_argument("--stopping", action="append")
    return parser.parse_args()


def pairs(options: argparse.Namespace) -> list[tuple[str, str]]:
    if options.sampler is None and options.stopping is None:
        return [default_pair(), ("tpe", "pareto"), ("random", "none")]
    given = options.sampler or [], options.stopping or []
    samplers, rules = (
        written + [default] * (max(map(len, given)) - len(written))
        for written, default in zip(given, default_pair(), strict=True)
    )
    return list(zip(samplers, rules, strict=True))


def seven_by_hand() -> list[Recipe]:
    heads = [PRETRAINED.replace(input_size=size) for size in SIZES]
    deeper = [one.replace(unfrozen=2, learning_rate=3e-4) for one in heads]
    return [*heads, *deeper, deeper[-1].replace(learning_rate=1e-3)]


def reference_recipes() -> list[Recipe]:
    space = parse_space(SPACE, name="mixed", source="mixed", folder=Path(), seed=0)
    trial = RandomTrial(seed=0)
    recipes = [PRETRAINED.replace(input_size=size) for size in SIZES]
    drawn: dict[tuple[str, int], int] = {}
    while sum(drawn.values()) < NUM_RANDOM * len(SIZES) * len(SPACE["model"]):
        recipe = space.suggest(trial)
        kind = recipe.model, recipe.input_size
        if drawn.setdefault(kind, 0) < NUM_RANDOM and recipe not in recipes:
            drawn[kind] += 1
            recipes.append(recipe)
    return recipes


def search_list(out: Path, name: str, recipes: Sequence[Recipe]) -> Search:
    """Train recipes to their end, and nothing else."""
    return search(
        out,
        name,
        resume=True,
        enqueue=[recipe.to_dict() for recipe in recipes],
        early_stopping={"name": "none"},
        dominated="keep",
        budget={"trials": len(recipes)},
    )


def search(
    out: Path,
    name: str,
    *,
    enqueue: Iterable[Mapping[str, Any]] = (),
    resume: bool = False,
    **settings: Any,
) -> Search:
    """Run a search, or read one of the same study that is kept. resume: as of `run_flopwise`."""
    study = {
        "name": name,
        "data": {"path": str(out / "data")},
        "space": {**SPACE, "enqueue": list(enqueue)},
        "objectives": {"accuracy": "max", "gflops": "min"},
        **settings,
    }
    kept = out / name / "search.json"
    if kept.exists():
        content = json.loads(kept.read_text())
        if content["study"] == study:
            return search_from(content["search"])
    print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
    found = run_flopwise(study, out / name, workers=WORKERS, resume=resume)
    kept.write_text(json.dumps({"study": study, "search": found.to_dict()}))
    return found


def in_order(found: Search) -> tuple[FloatArray, FloatArray]:
    """(trials,) when its complete trials ended, in order; (trials, 2) minus accuracy, GFLOPs."""
    ended = sorted(found.finished, key=lambda trial: trial.ended)
    losses = [(-(trial.accuracy or 0.0), trial.gflops) for trial in ended]
    return np.array([one.ended for one in ended]), np.array(losses, dtype=float).reshape(-1, 2)


def tell(
    out: Path,
    searches: Mapping[tuple[tuple[str, str], int], Search],
    by_hand: Search,
    reference: Search,
) -> None:
    _, best = in_order(reference)
    box = Box.around(best, log_columns=(1,))
    whole = box.normalized_hypervolume(best)

    def grown(found: Search) -> FloatArray:
        _, losses = in_order(found)
        counts = range(1, len(losses) + 1)
        return np.array([box.normalized_hypervolume(losses[:count]) / whole for count in counts])

    rows: dict[str, list[Search]] = {}
    for ((sampler, stopping), _), found in searches.items():
        rows.setdefault(f"{sampler}, {stopping}", []).append(found)
    rows |= {"by hand": [by_hand], "reference": [reference]}
    traces = [
        SeededTraces(
            name=name,
            seconds=tuple(in_order(one)[0] for one in found),
            hypervolumes=tuple(grown(one) for one in found),
        )
        for name, found in rows.items()
    ]
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print("seconds to a share of the reference front's hypervolume: median (quartiles)")
    console.print(traces_table(traces, SHARES))
    table = Table(box=None, pad_edge=False)
    for column in ("search", "seconds", "share at its end", "points", "best accuracy"):
        table.add_column(column, justify="left" if column == "search" else "right")
    for (name, found), trace in zip(rows.items(), traces, strict=True):
        losses = [in_order(one)[1] for one in found]
        table.add_row(
            name,
            " ".join(f"{one.seconds:.0f}" for one in found),
            " ".join(f"{shares.max(initial=0.0):.1%}" for shares in trace.hypervolumes),
            " ".join(str(int(pareto_front(one).sum())) for one in losses),
            " ".join(f"{-one[:, 0].min(initial=0.0):.1%}" for one in losses),
        )
    console.print(table)
    title = "Share of the reference front's hypervolume, on 25 kinds of animal"
    print(traces_picture(traces, out / "mixed-space.png", title=title, x_label="seconds"))


if __name__ == "__main__":
    main()
