"""What early stopping spends on trials at chance, and what it stops although it learns.

    python benchmarks/chance.py [--seeds 20] [--workers 4]      # the rows of the README's tables
    python benchmarks/chance.py --record [--weights FILE]       # make the table anew (20 minutes)

The table, benchmarks/chance_curves, is a search of 31 random recipes on synthetic images (40
classes, 64 px): the baseline CNN from random weights, at learning rates of which many teach it
nothing, and MobileNetV2 from ImageNet weights, of which the head and up to 3 blocks train. Each was
trained for all of its 12 epochs. Every row searches it again with each seed, as replay.py
does. A trial is at chance if its last accuracy is at most two standard errors above 1 / classes.
`front` is what the finished trials reach of the recorded front: of its accuracies above chance,
summed over its points, each at its cost or below. The second table is replay.py's, of CNNs alone.

To measure other code, put its checkout first on PYTHONPATH.
"""

import argparse
import shutil
import statistics
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from analysis.pareto.front import pareto_front
from analysis.runs import EPOCHS, STUDY, TRIALS
from search.decisions.budget import Budget
from search.decisions.stopping_rules import EarlyStoppingSettings
from search.decisions.trial_record import TrialRecord, stored_records
from search.simulation.comparison import default_pair
from search.simulation.reading import read_benchmark
from search.simulation.simulator import SimulationSettings, simulate
from search.simulation.tabular_benchmark import TabularBenchmark
from spaces.yaml_files import read_yaml_mapping, write_yaml
from trainables.data.dataset import ImageData
from trainables.data.splits import SPLITS

CURVES = Path(__file__).with_name("chance_curves")
CNN_CURVES = Path(__file__).with_name("curves")
CLASSES, SIZE, NUM_TRIALS = 40, 64, 31
SPACE = {
    "model": ["baseline_cnn", "mobilenet_v2"],
    "weights": {"fixed": "imagenet", "when": {"model": "mobilenet_v2"}},
    "unfrozen": {"int": [0, 3], "when": {"model": "mobilenet_v2"}},
    "width": {"choices": [0.0625, 0.125, 0.25], "when": {"model": "baseline_cnn"}},
    "batch_norm": {"choices": [False, True], "when": {"model": "baseline_cnn"}},
    "input_size": [48, 64],
    "batch_size": [32, 64],
    "optimizer": ["adam", "sgd"],
    "learning_rate": {"log": [1.0e-5, 1.0e-1]},
    "scheduler": ["constant", "cosine"],
    "epochs": 12,
}
ROWS = {
    f"{sampler}, {stopping}": (sampler, EarlyStoppingSettings(name=stopping))
    for sampler, stopping in (default_pair(), ("tpe", "pareto"), ("tpe", "none"))
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Worker-seconds spent on trials at chance.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--weights", default="imagenet", help="MobileNetV2's, with --record.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.record:
        record(options.weights)
        return
    for curves in (CURVES, CNN_CURVES):
        compare(curves, options.seeds, options.workers)


def compare(curves: Path, seeds: int, workers: int) -> None:
    num_trials = len(read_benchmark(curves).trials)
    title = f"{curves.name}: {num_trials} trials, {seeds} seeds, {workers} workers: means"
    table = Table(box=None, title=title, title_justify="left")
    for name in ("search", "worker s", "s at chance", "share (%)", "finished at chance",
                 "stopped above chance", "front (%)"):  # fmt: skip
        table.add_column(name, justify="right")
    with ProcessPoolExecutor() as processes:
        for name, (sampler, stopping) in ROWS.items():
            way = SimulationSettings(
                sampler=sampler,
                early_stopping=stopping,
                workers=workers,
                budget=Budget(trials=num_trials),
            )
            of_seeds = list(processes.map(partial(_once, curves, way), range(seeds)))
            means = [statistics.fmean(column) for column in zip(*of_seeds, strict=True)]
            seconds, at_chance, finished, stopped, reached = means
            table.add_row(
                name, f"{seconds:.0f}", f"{at_chance:.1f}", f"{100 * at_chance / seconds:.1f}",
                f"{finished:.1f}", f"{stopped:.1f}", f"{100 * reached:.1f}",
            )  # fmt: skip
    Console(width=140).print(table)


def _once(curves: Path, way: SimulationSettings, seed: int) -> tuple[float, float, int, int, float]:
    """Worker-seconds, those at chance, trials finished there, others stopped, share of front."""
    table, ceiling = read_benchmark(curves), _ceiling(curves)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=table.objectives.optuna_directions)
    done = simulate(table, replace(way, seed=seed), study=study)
    records = [record for record in stored_records(study) if record.epochs]
    at_chance = [record for record in records if record.epochs[-1].accuracy <= ceiling]
    learned = [record for record in records if record.epochs[-1].accuracy > ceiling]
    return (
        done.worker_seconds,
        sum(record.seconds for record in at_chance),
        sum(record.has_run_all_epochs for record in at_chance),
        sum(not record.has_run_all_epochs for record in learned),
        _share_of_front(table, records, curves),
    )


def _share_of_front(table: TabularBenchmark, records: list[TrialRecord], curves: Path) -> float:
    guessing = 1 / read_yaml_mapping(curves / STUDY)["provenance"]["num_classes"]
    complete = [record for record in records if record.accuracy is not None]
    finished = np.array([table.objectives.losses_of(one.numbers()) for one in complete])
    found = whole = 0.0
    for loss, cost in table.losses[pareto_front(table.losses)]:
        reached = finished[finished[:, 1] <= cost, 0] if len(finished) else finished
        best = -reached.min() if len(reached) else 0.0
        found += max(0.0, best - guessing)
        whole += max(0.0, -loss - guessing)
    return found / whole


def _ceiling(curves: Path) -> float:
    """The accuracy two standard errors above chance."""
    # By itself, so that this also measures code which knows nothing of chance.
    provenance = read_yaml_mapping(curves / STUDY)["provenance"]
    share, images = 1 / provenance["num_classes"], provenance["num_images"]["validation"]
    return share + 2 * (share * (1 - share) / images) ** 0.5


def record(weights: str) -> None:
    """Train the table's recipes one after the other, with one thread each."""
    # Imported here: replays need no torch.
    from spaces.space_file import parse_space
    from spaces.suggesters import RandomTrial
    from trainables.cost import recipe_cost
    from trainables.data.demo_images import make_demo
    from trainables.training import TrainingFailedError, train, use_threads

    use_threads(1)
    space = parse_space(SPACE, name="chance", source="SPACE", folder=Path())
    trial = RandomTrial(seed=0)
    trials, epochs = [], []
    shutil.rmtree(CURVES, ignore_errors=True)
    CURVES.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        data = make_demo(Path(folder) / "data", classes=CLASSES, size=SIZE)
        (CURVES / STUDY).write_text(write_yaml(_study(space.to_dict(), data)))
        while len(trials) < NUM_TRIALS:
            recipe, curve = space.suggest(trial), []
            real = recipe if recipe.weights == "none" else recipe.replace(weights=weights)
            try:
                train(real, data, curve.append)
            except TrainingFailedError:
                continue  # a failure has no curve
            number = len(trials)
            cost = recipe_cost(recipe, CLASSES)
            trials.append(
                {"trial": number, "state": "COMPLETE", **recipe.to_dict(), **cost.figures}
                | {"accuracy": curve[-1].accuracy, "epochs_trained": len(curve)}
                | {"seconds": sum(metrics.seconds for metrics in curve)}
            )
            epochs += [{"trial": number, **metrics.to_dict()} for metrics in curve]
            pq.write_table(pa.Table.from_pylist(trials), CURVES / TRIALS)
            pq.write_table(pa.Table.from_pylist(epochs), CURVES / EPOCHS)
            done = f"{number + 1} of {NUM_TRIALS}: {recipe.model}"
            print(f"{done} {curve[-1].accuracy:.1%}", flush=True)


def _study(space: dict[str, Any], data: ImageData) -> dict[str, Any]:
    return {
        "name": "chance",
        "data": {"path": "data"},
        "space": space,
        "objectives": {"accuracy": "max", "effective_gflops": "min"},
        "early_stopping": {"name": "none"},
        "provenance": {
            "num_classes": CLASSES,
            "num_images": {name: len(data.rows(name)) for name in SPLITS},
        },
    }


if __name__ == "__main__":
    main()
