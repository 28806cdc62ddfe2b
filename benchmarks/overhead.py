"""What a trial costs beyond its training: trials that train nothing, ours and plain Ray Tune's.

    python benchmarks/overhead.py [--trials 100] [--workers 2] [--storages]

Every way runs in a process of its own, one after the other, on a Ray of its own with so many
cores. Each trial is one epoch that takes no time; two objectives, the same four dimensions, TPE.

    flopwise              this repo as it is but for the epoch: costs, journal storage, run folder,
                          a small CNN built and its checkpoint written in every trial
    ray tune, reuse       OptunaSearch, class Trainable, reuse_actors=True; no model, an empty
                          checkpoint at the end
    ray tune              the same without reuse_actors: a process for each trial

Seconds a trial: wall time from the first proposal to the last result / trials. The start of the
first actors is in it and told apart: `after the first` is the rate once every worker has finished
a trial. `--storages` compares Optuna's storages instead, without Ray.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

BATCH_SIZES, SIZES = [16, 32, 64], [48, 56, 64]


def main() -> None:
    parser = argparse.ArgumentParser(description="What a trial costs beyond its training.")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--storages", action="store_true")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        json.dump(WAYS[options.way](options.trials, options.workers), sys.stdout)
        return
    ways = STORAGE_WAYS if options.storages else RAY_WAYS
    print(f"{options.trials} trials, {options.workers} workers")
    print(f"{'':24}{'s a trial':>12}{'after the first':>18}{'all':>10}")
    for way in ways:
        seconds = _in_its_own_process(way, options.trials, options.workers)
        print(f"{way:24}{seconds['each']:12.3f}{seconds['steady']:18.3f}{seconds['all']:9.1f}s")


def _in_its_own_process(way: str, trials: int, workers: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--trials", str(trials)]
    done = subprocess.run(
        [*command, "--workers", str(workers)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{way} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _rates(started: float, ends: list[float], workers: int) -> dict[str, float]:
    ends = sorted(ends)
    return {
        "all": ends[-1] - started,
        "each": (ends[-1] - started) / len(ends),
        "steady": (ends[-1] - ends[workers - 1]) / (len(ends) - workers),
    }


def run_flopwise(trials: int, workers: int) -> dict[str, float]:
    import ray

    from search.engine import Progress, run_search
    from search.study.study import load_study
    from spaces.recipe import recipe_from
    from trainables.data.dataset import open_data
    from trainables.data.demo_images import make_demo
    from trainables.training import EpochMetrics, Training
    from trainables.trial import Trial

    class Idle(Trial):
        """Our trainable with all of a trial but the epoch: the model is built and checkpointed."""

        def _run_epoch(self) -> list[dict[str, Any]]:
            data = self._data = self._data or open_data(Path(self._config["data"]))
            training = Training(recipe_from(self._config["recipe"]), data)
            epoch = _epoch(accuracy=training.recipe.learning_rate)
            training.history.append(EpochMetrics.from_dict(epoch))
            self._training = training
            return [epoch]

    folder = Path(tempfile.mkdtemp())
    make_demo(folder / "data", classes=3, size=64)
    (folder / "study.yaml").write_text(
        "name: idle\ndata: {path: data}\n"
        f"budget: {{trials: {trials}}}\n"
        f"space: {{batch_size: {BATCH_SIZES}, input_size: {SIZES}, width: {{float: [0.1, 1]}},"
        " learning_rate: {log: [1.0e-4, 1.0e-1]}, epochs: 1}\n"
    )
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    ends: dict[int, float] = {}

    def note(progress: Progress) -> None:
        for record in progress.ledger.records.values():
            if record.state.is_finished():
                ends.setdefault(record.number, time.monotonic())

    started = time.monotonic()
    result = run_search(load_study(folder / "study.yaml"), show=note, trainable=Idle)
    assert len(ends) == trials, f"{result.ending}: {len(ends)} of {trials} trials"
    return _rates(started, list(ends.values()), workers)


def _epoch(accuracy: float) -> dict[str, Any]:
    return {
        "epoch": 1,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "val_loss": 1.0,
        "accuracy": accuracy,
        "learning_rate": 0.1,
        "seconds": 0.0,
    }


def run_ray_tune(trials: int, workers: int, *, reuse: bool) -> dict[str, float]:
    import ray
    import torch  # noqa: F401 (what any trial of ours or theirs imports)
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    class Idle(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:

            self.config = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.config = new_config
            return True

        def step(self) -> dict[str, Any]:
            cost = self.config["input_size"] ** 2 * self.config["width"]
            return {"accuracy": self.config["learning_rate"], "gflops": cost, "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            (Path(checkpoint_dir) / "state").write_text("{}")

    class Ends(tune.Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_trial_complete(
            self, iteration: int, trials: list[Any], trial: Any, **_: Any
        ) -> None:
            self.ends.append(time.monotonic())

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    ends = Ends()
    space = {
        "batch_size": tune.choice(BATCH_SIZES),
        "input_size": tune.choice(SIZES),
        "width": tune.uniform(0.1, 1),
        "learning_rate": tune.loguniform(1e-4, 1e-1),
    }
    tuner = tune.Tuner(
        tune.with_resources(Idle, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=["accuracy", "gflops"], mode=["max", "min"]),
            num_samples=trials,
            max_concurrent_trials=workers,
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(
            storage_path=tempfile.mkdtemp(),
            callbacks=[ends],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True, num_to_keep=1),
            verbose=0,
        ),
    )
    started = time.monotonic()
    tuner.fit()
    return _rates(started, ends.ends, workers)


def run_storage(kind: str, trials: int) -> dict[str, float]:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    from search.decisions.samplers import build_sampler

    folder = tempfile.mkdtemp()
    storages: dict[str, Any] = {
        "memory": lambda: optuna.storages.InMemoryStorage(),
        "sqlite": lambda: optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db"),
        "journal": lambda: optuna.storages.JournalStorage(
            JournalFileBackend(f"{folder}/study.journal")
        ),
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=storages[kind](), directions=["maximize", "minimize"])
    started = time.monotonic()
    ends = []
    for number in range(trials):
        study.sampler = build_sampler("tpe", seed=0, trial_number=number)
        trial = study.ask()
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        size = trial.suggest_categorical("input_size", SIZES)
        width = trial.suggest_float("width", 0.1, 1)
        trial.suggest_categorical("batch_size", BATCH_SIZES)
        # What the ledger stores of a trial: a recipe, a cost, and the curve of its epochs.
        trial.set_user_attr("recipe", {f"field {field}": 0.123 for field in range(19)})
        trial.set_user_attr("cost", {f"cost {field}": 0.123 for field in range(8)})
        trial.set_user_attr("outcome", {"epochs": [_epoch(accuracy=rate)] * 5})
        study.tell(trial, [rate, size**2 * width])
        ends.append(time.monotonic())
    return _rates(started, ends, 1)


RAY_WAYS = ("flopwise", "ray tune, reuse", "ray tune")
STORAGE_WAYS = ("memory", "journal", "sqlite")
WAYS: dict[str, Any] = {
    "flopwise": run_flopwise,
    "ray tune, reuse": lambda trials, workers: run_ray_tune(trials, workers, reuse=True),
    "ray tune": lambda trials, workers: run_ray_tune(trials, workers, reuse=False),
    "memory": lambda trials, _: run_storage("memory", trials),
    "journal": lambda trials, _: run_storage("journal", trials),
    "sqlite": lambda trials, _: run_storage("sqlite", trials),
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
