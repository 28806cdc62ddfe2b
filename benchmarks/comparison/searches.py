"""Searches run in processes of their own, flopwise's and the peers', and what came of them.

Seconds count from the start of a process: imports and the start of Ray are in them.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peers.task import (
    BATCH_SIZES,
    DIMENSIONS,
    LEARNING_RATES,
    MOST_UNFROZEN,
    OPTIMIZERS,
    SCHEDULERS,
)

from search.decisions.trial_record import read_record
from search.storage.optuna_storage import read_trials
from spaces.yaml_files import write_yaml

FLOPWISE = Path(sys.executable).with_name("flopwise")
PEERS = Path(__file__).resolve().parents[1] / "peers"
_TOLD_OF_A_FAILURE = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One trial; seconds count from the start of its search's process."""

    recipe: dict[str, Any]
    """Of DIMENSIONS."""
    accuracy: float | None
    """After the last epoch of the recipe; None of a trial that was stopped before."""
    gflops: float
    epochs: int
    began: float
    ended: float
    training_seconds: float | None = None
    """In epochs; not known of the peers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search that has ended."""

    name: str
    seconds: float
    """From the start of its process to its end."""
    trials: tuple[Trained, ...]
    """In the order in which they were proposed."""
    prepared_seconds: float = 0.0
    """Of preparing data before it; part of no other number here."""

    @property
    def finished(self) -> tuple[Trained, ...]:
        return tuple(trial for trial in self.trials if trial.accuracy is not None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class SearchFailedError(Exception):
    """A search's process ended with an error; its text is for a person."""


def run_process(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
) -> tuple[float, float]:
    """Run a command, its output in log: when it began, in seconds since 1970, and its seconds.

    Raises SearchFailedError with the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        began, started = time.time(), time.monotonic()
        done = subprocess.run(
            list(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, **(env or {})},
            check=False,
        )
        seconds = time.monotonic() - started
    if done.returncode:
        end = log.read_text(errors="replace").splitlines()[-_TOLD_OF_A_FAILURE:]
        raise SearchFailedError("\n".join([f"{log} ended with {done.returncode}:", *end]))
    return began, seconds


def run_peer(name: str, python: Path, task: Mapping[str, Any], folder: Path) -> Search:
    """Run peers/<name>.py; its result, settings and log are kept in folder."""
    result = folder / f"{name}-result.json"
    command: list[str | Path] = [python, PEERS / f"{name}.py", "--out", result]
    for option, value in task.items():
        command += [f"--{option.replace('_', '-')}", *_words(value)]
    # Ray gives a trial one thread, Syne Tune too; Optuna leaves it to torch.
    began, seconds = run_process(command, folder / f"{name}.log", {"OMP_NUM_THREADS": "1"})
    content = json.loads(result.read_text())
    trials = tuple(
        Trained(
            recipe=row["recipe"],
            accuracy=row["accuracy"] if row["epochs"] == task["epochs"] else None,
            gflops=row["gflops"],
            epochs=row["epochs"],
            began=row["began"] - began,
            ended=row["ended"] - began,
        )
        for row in content["trials"]
    )
    return Search(name=name, seconds=seconds, trials=trials)


def flopwise_space(weights: Path, input_sizes: Sequence[int], epochs: int) -> dict[str, Any]:
    """The peers' space as a space file has it."""
    return {
        "model": "mobilenet_v2",
        "weights": str(weights),
        "epochs": epochs,
        "input_size": list(input_sizes),
        "batch_size": list(BATCH_SIZES),
        "learning_rate": {"log": list(LEARNING_RATES)},
        "optimizer": list(OPTIMIZERS),
        "scheduler": list(SCHEDULERS),
        "unfrozen": {"int": [0, MOST_UNFROZEN]},
    }


def search_from(content: Mapping[str, Any]) -> Search:
    """The inverse of `Search.to_dict`."""
    trials = tuple(Trained(**trial) for trial in content["trials"])
    return Search(**{**content, "trials": trials})


def run_flopwise(
    study: Mapping[str, Any],
    folder: Path,
    *,
    workers: int,
    prepared_seconds: float = 0.0,
    resume: bool = False,
) -> Search:
    """Run `flopwise search` in a folder made anew, with a cache folder that is empty.

    workers: cores that Ray is told of, so trials at a time. The run folder is folder/runs/<name>.
    resume: a search that was cut off in this folder goes on; its seconds mean nothing then.
    """
    run = folder / "runs" / study["name"]
    resume = resume and run.is_dir()
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    file = folder / "study.yaml"
    file.write_text(write_yaml(dict(study)))
    env = flopwise_environment(folder, workers)
    command = [FLOPWISE, "search", file, *["--resume"] * resume]
    began, seconds = run_process(command, folder / "search.log", env)
    return Search(
        name="flopwise",
        seconds=seconds,
        trials=_read_run(run, began),
        prepared_seconds=prepared_seconds,
    )


def flopwise_environment(folder: Path, workers: int) -> dict[str, str]:
    """An empty cache, and as many cores for Ray as there are workers."""
    return {
        "FLOPWISE_CACHE": str(folder / "cache"),
        "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": workers}),
    }


def _read_run(run: Path, began: float) -> tuple[Trained, ...]:
    trials = []
    for frozen in read_trials(run):
        record, _ = read_record(frozen)
        complete = frozen.datetime_complete
        if record.recipe is None or record.cost is None or complete is None:
            continue
        assert frozen.datetime_start is not None
        recipe = record.recipe.to_dict()
        trials.append(
            Trained(
                recipe={name: recipe[name] for name in DIMENSIONS},
                accuracy=record.accuracy,
                gflops=record.cost.gflops,
                epochs=len(record.epochs),
                began=frozen.datetime_start.timestamp() - began,
                ended=complete.timestamp() - began,
                training_seconds=record.seconds,
            )
        )
    return tuple(trials)


def _words(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
