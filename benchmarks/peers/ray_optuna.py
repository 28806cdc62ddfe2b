"""Ray Tune with OptunaSearch and two objectives, the way Ray's documentation has it.

    python benchmarks/peers/ray_optuna.py --images FOLDER --weights FILE [--trials 16] [--epochs 4]

https://docs.ray.io/en/latest/tune/examples/optuna_example.html (multi-objective optimization) and
https://docs.ray.io/en/latest/tune/examples/tune-pytorch-cifar.html: a function trainable, a list of
metrics and modes, no scheduler (Ray's take one metric). A trial has 1 CPU, Ray's default.
"""

import os
import tempfile
import time
from typing import Any

import ray
from plain_training import train
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from task import (
    BATCH_SIZES,
    LEARNING_RATES,
    MOST_UNFROZEN,
    OPTIMIZERS,
    SCHEDULERS,
    Task,
    read_task,
    trial_row,
    write_trials,
)


def train_classifier(config: dict[str, Any]) -> None:
    began = time.time()

    def report(epoch: int, accuracy: float, gflops: float) -> None:
        # The times are for the benchmark's table.
        times = {"epoch": epoch, "began": began, "ended": time.time()}
        tune.report({"accuracy": accuracy, "gflops": gflops, **times})

    train(config, report)


def search(task: Task) -> list[dict[str, Any]]:
    ray.init(address="local", num_cpus=task.workers)
    tuner = tune.Tuner(
        train_classifier,
        param_space={
            "input_size": tune.choice(list(task.input_sizes)),
            "batch_size": tune.choice(list(BATCH_SIZES)),
            "learning_rate": tune.loguniform(*LEARNING_RATES),
            "optimizer": tune.choice(list(OPTIMIZERS)),
            "scheduler": tune.choice(list(SCHEDULERS)),
            "unfrozen": tune.randint(0, MOST_UNFROZEN + 1),
            **task.constants,
        },
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                metric=["accuracy", "gflops"], mode=["max", "min"], seed=task.seed
            ),
            num_samples=task.trials,
            max_concurrent_trials=task.workers,
        ),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), name="ray_optuna"),
    )
    results = tuner.fit()
    ray.shutdown()
    rows = []
    for result in results:
        metrics, config = result.metrics, result.config
        if result.error or not metrics or not config:
            print(f"a trial failed: {result.error}")
            continue
        rows.append(
            trial_row(
                config,
                accuracy=metrics["accuracy"],
                gflops=metrics["gflops"],
                epochs=metrics["epoch"],
                began=metrics["began"],
                ended=metrics["ended"],
            )
        )
    return rows


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    the_task = read_task("Ray Tune with OptunaSearch and two objectives.")
    write_trials(the_task, search(the_task), ["ray", "optuna"])
