"""Syne Tune's MOASHA with its local backend: multi-objective early stopping, random proposals.

    PYTHON benchmarks/peers/syne_tune_moasha.py --images FOLDER --weights FILE [--trials 16]

PYTHON: one with syne-tune, torch and torchvision (see ../README.md). After
https://github.com/syne-tune/syne-tune/blob/main/examples/launch_height_moasha.py: a training script
with a process of its own for each trial, which starts Python and imports torch. MOASHA's defaults:
the first rung after 1 epoch, a third goes on. The tuner looks for results every 0.5 s, not every
5 s, its default, under which workers would wait. MOASHA has one direction for all metrics: accuracy
is given to it as an error.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from syne_tune import StoppingCriterion, Tuner  # pyright: ignore[reportMissingImports]
from syne_tune.backend import LocalBackend  # pyright: ignore[reportMissingImports]
from syne_tune.config_space import (  # pyright: ignore[reportMissingImports]
    choice,
    loguniform,
    randint,
)
from syne_tune.experiments import load_experiment  # pyright: ignore[reportMissingImports]
from syne_tune.optimizer.schedulers.multiobjective.moasha import (  # pyright: ignore[reportMissingImports]
    MOASHA,
)
from task import (
    BATCH_SIZES,
    DIMENSIONS,
    LEARNING_RATES,
    MOST_UNFROZEN,
    OPTIMIZERS,
    SCHEDULERS,
    Task,
    read_task,
    trial_row,
    write_trials,
)

TRAINING_SCRIPT = Path(__file__).with_name("syne_tune_training.py")


def search(task: Task) -> list[dict[str, Any]]:
    np.random.seed(task.seed)  # noqa: NPY002 (where MOASHA draws from)
    config_space = {
        "input_size": choice(list(task.input_sizes)),
        "batch_size": choice(list(BATCH_SIZES)),
        "learning_rate": loguniform(*LEARNING_RATES),
        "optimizer": choice(list(OPTIMIZERS)),
        "scheduler": choice(list(SCHEDULERS)),
        "unfrozen": randint(0, MOST_UNFROZEN),
        **task.constants,
    }
    scheduler = MOASHA(
        config_space,
        metrics=["error", "gflops"],
        time_attr="epoch",
        max_t=task.epochs,
        random_seed=task.seed,
    )
    tuner = Tuner(
        trial_backend=LocalBackend(entry_point=str(TRAINING_SCRIPT)),
        scheduler=scheduler,
        # It stops once there are more than so many.
        stop_criterion=StoppingCriterion(max_num_trials_started=task.trials - 1),
        n_workers=task.workers,
        sleep_time=0.5,
        wait_trial_completion_when_stopping=True,
    )
    tuner.run()
    reports = load_experiment(tuner.name).results
    rows = []
    for _, epochs in reports.groupby("trial_id"):
        last = epochs.sort_values("epoch").iloc[-1].to_dict()
        ended = float(last["st_worker_timestamp"])
        rows.append(
            trial_row(
                {name: _plain(last[f"config_{name}"]) for name in DIMENSIONS},
                accuracy=1 - float(last["error"]),
                gflops=float(last["gflops"]),
                epochs=int(last["epoch"]),
                began=ended - float(last["st_worker_time"]),
                ended=ended,
            )
        )
    return rows


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    os.environ.setdefault("SYNETUNE_FOLDER", tempfile.mkdtemp())  # else ~/syne-tune
    the_task = read_task("Syne Tune's MOASHA with its local backend.")
    write_trials(the_task, search(the_task), ["syne-tune"])
