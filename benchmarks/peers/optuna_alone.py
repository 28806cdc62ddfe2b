"""Optuna alone, two objectives, trials in threads: `study.optimize(n_jobs=2)`.

    python benchmarks/peers/optuna_alone.py --images FOLDER --weights FILE [--trials 16]

https://optuna.readthedocs.io/en/stable/tutorial/20_recipes/002_multi_objective.html, which trains a
PyTorch classifier for accuracy and FLOPs, with TPE in its default for several objectives. Pruning
is not possible there. Threads share one Python: torch and Pillow let go of its lock while they
compute, the rest waits.
"""

from typing import Any

import optuna
from plain_training import train
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


def search(task: Task) -> list[dict[str, Any]]:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        config = {
            "input_size": trial.suggest_categorical("input_size", task.input_sizes),
            "batch_size": trial.suggest_categorical("batch_size", BATCH_SIZES),
            "learning_rate": trial.suggest_float("learning_rate", *LEARNING_RATES, log=True),
            "optimizer": trial.suggest_categorical("optimizer", OPTIMIZERS),
            "scheduler": trial.suggest_categorical("scheduler", SCHEDULERS),
            "unfrozen": trial.suggest_int("unfrozen", 0, MOST_UNFROZEN),
            **task.constants,
        }
        reported: list[tuple[float, float]] = []
        train(config, lambda _, accuracy, gflops: reported.append((accuracy, gflops)))
        return reported[-1]

    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.TPESampler(seed=task.seed)
    )
    study.optimize(objective, n_trials=task.trials, n_jobs=task.workers)
    rows = []
    for trial in study.trials:
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        accuracy, gflops = trial.values
        rows.append(
            trial_row(
                trial.params,
                accuracy=accuracy,
                gflops=gflops,
                epochs=task.epochs,
                began=trial.datetime_start.timestamp(),
                ended=trial.datetime_complete.timestamp(),
            )
        )
    return rows


if __name__ == "__main__":
    the_task = read_task("Optuna alone, with two objectives and trials in threads.")
    write_trials(the_task, search(the_task), ["optuna"])
