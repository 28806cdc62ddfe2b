"""What crashes cost: a search whose processes are killed at random moments, and that is resumed.

    python benchmarks/kill.py [--kills 21] [--trials 40] [--seed 0] [--out FOLDER]
    python benchmarks/kill.py --memory --kills 10 --trials 24
    python benchmarks/kill.py --rule gain --kills 21 --trials 24

Generated data, trials of some seconds, two objectives, the real `flopwise search`. Killed with
SIGKILL are, in turn, the driver, a trial's process and Ray's raylet, each at a moment that is drawn
at random; a driver that ended is resumed, until the kills and the trials are used up. Then every
trial is audited against what was seen before each kill, and some of those that were interrupted are
trained again without an interruption. Exits with 1 where anything is lost, doubled, stuck or wrong.

With --rule, trials are stopped or paused by this rule of early stopping; the default stops none.
Trials that were paused at a kill have to go on from their checkpoints, or to be given up.

With --memory, Ray's memory monitor does the killing: its threshold is set 2.5 GB above what is used
when the search begins, and this process takes memory until a trial's process is gone. Nothing is
resumed: the search has to come to its own end. With RAY_memory_usage_threshold, that one is used.

Ray's two agents of a node, which hold no trial, outlive their raylet for a minute; they are not
waited for. Linux only: processes are found in /proc. Not covered: machines that are switched off,
whose disks may forget what was written last, and clusters.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from optuna.trial import TrialState

from analysis.pareto.front import pareto_front
from analysis.runs import run_recipe
from search.decisions.trial_record import read_record
from search.storage.optuna_storage import JOURNAL, open_study
from spaces.errors import UserError
from trainables.data.dataset import open_data
from trainables.data.demo_images import make_demo
from trainables.training import EpochMetrics, train

KINDS = ("driver", "trial", "raylet")
# Ray's threshold, above the memory that is used before the search begins; a search takes 2 GB.
_MEMORY_MARGIN_BYTES = 2_500_000_000
_MOST_FILLED_BYTES = 3_000_000_000
_FILLED_STEP_BYTES = 50_000_000
# A search that trains no epoch for so long is stuck.
LIMIT_SECONDS = 180.0
_POLL_SECONDS = 0.1
_NAME = "kill"
_FLOPWISE = Path(sys.executable).with_name("flopwise")
_STUDY = """\
name: {name}
data: {{path: {data}}}
budget: {{trials: {trials}}}
early_stopping: {{name: {rule}}}
space:
  input_size: [48, 64]
  width: {{float: [0.1, 0.25]}}
  batch_size: [8, 16]
  learning_rate: {{log: [1.0e-3, 1.0e-2]}}
  scheduler: [constant, cosine]
  epochs: {{int: [{epochs}, {twice}]}}
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a search; a number may be given again, its start tells them apart."""

    pid: int
    started: str
    command: str

    @property
    def is_trial(self) -> bool:
        """Whether it is one of Ray's workers that runs a trial."""
        return self.command.startswith("ray::") and not re.search("IDLE|Agent", self.command)

    @property
    def is_raylet(self) -> bool:
        return self.command.split(" ")[0].endswith("/raylet")

    @property
    def is_alive(self) -> bool:
        stat = _read_stat(self.pid)
        return stat is not None and stat[1] == self.started

    def kill(self) -> None:
        if self.is_alive:
            os.kill(self.pid, signal.SIGKILL)


@dataclass(slots=True, kw_only=True)
class Kill:
    """One kill, and what was seen right after it."""

    kind: str
    at_seconds: float
    """After the start of its session."""
    ended_seconds: float | None = None
    """Until the driver had ended; None: it went on, as it should when only a trial was killed."""
    cleared_seconds: float | None = None
    """Until its raylet and its trials' processes were gone too."""
    finished: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    """Every finished trial with its results, as stored."""
    interrupted: dict[int, list[EpochMetrics]] = field(default_factory=dict)
    """Trials that were running, with the epochs of their newest whole checkpoint."""
    paused: dict[int, list[EpochMetrics]] = field(default_factory=dict)
    """Trials that were paused, with the epochs of theirs."""


@dataclass(slots=True)
class Search:
    """A `flopwise search` that is run, killed and resumed."""

    study: Path
    trials: int
    command: Sequence[str | Path] = (_FLOPWISE,)
    """The command line; a test's may know more rules."""
    low_memory: bool = False
    """Whether Ray's memory threshold is low enough for `starve`."""
    kills: list[Kill] = field(default_factory=list)
    num_sessions: int = 0
    stuck: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _began: float = 0.0
    _family: dict[int, Process] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.study.parent / "runs" / _NAME

    @property
    def log(self) -> Path:
        return self.study.parent / "log.txt"

    @property
    def seconds(self) -> float:
        """Since this session was begun."""
        return time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def begin(self) -> None:
        """Start the search, or go on with it."""
        if not (self.run / "study.yaml").exists():
            # The driver was killed in the first moments, and said nothing that could be lost.
            shutil.rmtree(self.run, ignore_errors=True)
        options = ["--resume"] if self.run.exists() else []
        command = [*self.command, "search", self.study, "--trials", str(self.trials), *options]
        environment = {**_memory_threshold(), **os.environ} if self.low_memory else None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._began = time.monotonic()
        self._family = {}
        self.num_sessions += 1

    def look(self) -> list[Process]:
        """The driver's processes, those that it began itself and theirs."""
        assert self._process is not None
        processes = list(_descendants(self._process.pid))
        self._family.update({process.pid: process for process in processes})
        return processes

    def wait(self, happens: Callable[[], bool], limit: float = LIMIT_SECONDS) -> bool:
        """Wait until something happens; False where the session is over or it takes too long."""
        until = time.monotonic() + limit
        while not self.is_over and time.monotonic() < until:
            self.look()
            if happens():
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def end(self, limit: float = LIMIT_SECONDS) -> int:
        """Wait for the end of a session; returns its exit code.

        One that stays for `limit` seconds without another epoch is stuck.
        """
        assert self._process is not None
        should_continue = True
        while should_continue:
            before = self.num_epochs()
            should_continue = self.wait(lambda before=before: self.num_epochs() != before, limit)
        if not self.is_over:
            self.stuck.append(f"session {self.num_sessions} trained nothing for {limit:.0f} s")
            self._process.kill()
        return self._process.wait()

    def num_epochs(self) -> int:
        """Epochs in the table, which is replaced every few seconds; 0 before there is one."""
        table = self.run / "epochs.parquet"
        return pq.read_metadata(table).num_rows if table.exists() else 0

    def finish(self) -> bool:
        """Let a session come to its own end, with its processes; False where it does not."""
        code = self.end()
        if code != 0 and not self.stuck:
            self.stuck.append(f"session {self.num_sessions} ended with {code}, see {self.log}")
        self.clear()
        return not self.stuck

    def clear(self, limit: float = 30.0) -> None:
        """Wait until no raylet and no trial of an ended session is left, and end what is."""
        until = time.monotonic() + limit
        left = [p for p in self._family.values() if not re.search("Agent", p.command)]
        while left and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
            left = [process for process in left if process.is_alive]
        for process in left:
            self.stuck.append(f"session {self.num_sessions} left behind {process.command[:60]}")
        for process in self._family.values():
            process.kill()

    def kill(self, kind: str, *, delay: float, early: bool = False) -> bool:
        """Kill a process of a kind, so many seconds after a trial's process is there.

        early: or after the one to be killed is there. False: the session is over before that.
        """
        assert self._process is not None
        if not self.wait(lambda: self._victim(kind if early else "trial") is not None):
            return False
        until = time.monotonic() + delay
        self.wait(lambda: time.monotonic() > until)
        if not self.wait(lambda: self._victim(kind) is not None):
            return False
        victim = self._victim(kind)
        seen = Kill(kind=kind, at_seconds=self.seconds)
        assert victim is not None
        working_in = _working_folder(victim.pid)
        victim.kill()
        killed = time.monotonic()
        if kind != "trial":
            self.end()
            seen.ended_seconds = time.monotonic() - killed
            self.clear()
            seen.cleared_seconds = time.monotonic() - killed
        self.note(seen, of=str(working_in) if kind == "trial" else None)
        return True

    def starve(self, *, delay: float) -> bool:
        """Take memory until Ray has killed a trial, so many seconds after another epoch ended.

        False: the session is over before that.
        """
        epochs = self.num_epochs()
        if not self.wait(lambda: self.num_epochs() > epochs):
            return False
        until = time.monotonic() + delay
        self.wait(lambda: time.monotonic() > until)
        if not self.wait(lambda: self._victim("trial") is not None):
            return False
        victims = [process for process in self.look() if process.is_trial]
        seen = Kill(kind="memory", at_seconds=self.seconds)
        held: list[bytes] = []
        while all(victim.is_alive for victim in victims):
            if self.is_over:
                return False
            if len(held) * _FILLED_STEP_BYTES < _MOST_FILLED_BYTES:
                held.append(b"x" * _FILLED_STEP_BYTES)
            time.sleep(_POLL_SECONDS)
        del held
        self.note(seen)  # of all that run: a warm process still works in its first trial's folder
        return True

    def note(self, kill: Kill, *, of: str | None = None) -> None:
        """Keep what is stored right after a kill; of: the folder of the one trial that it hit."""
        self.kills.append(kill)
        kill.finished, running, paused = self.stored()
        kill.paused = {number: self.checkpointed(number) for number in paused}
        for number in running:
            if of is None or f"trial-{number:05d}" in of:
                kill.interrupted[number] = self.checkpointed(number)

    def stored(self) -> tuple[dict[int, tuple[Any, ...]], list[int], list[int]]:
        """Finished trials with their results, and the numbers of running and of paused ones."""
        with tempfile.TemporaryDirectory() as folder:
            if not (self.run / JOURNAL).exists():
                return {}, [], []
            shutil.copy(self.run / JOURNAL, folder)
            try:
                trials = open_study(Path(folder), _NAME).get_trials()
            except UserError:  # killed before there was a study
                return {}, [], []
        finished = {
            trial.number: (trial.state.name, trial.values, trial.user_attrs["outcome"]["epochs"])
            for trial in trials
            if trial.state.is_finished()
        }
        unfinished = [read_record(t)[0] for t in trials if t.state == TrialState.RUNNING]
        running = [record.number for record in unfinished if record.paused is None]
        return finished, running, [one.number for one in unfinished if one.paused is not None]

    def checkpointed(self, number: int) -> list[EpochMetrics]:
        """The epochs in the newest whole checkpoint of a trial."""
        found = self.run.glob(f"tune/*/trial-{number:05d}*/checkpoint_*/training.pt")
        histories = [_history(file) for file in found]
        return max(histories, key=len, default=[])

    def _victim(self, kind: str) -> Process | None:
        assert self._process is not None
        if kind == "driver":
            return _read_process(self._process.pid)
        found = [p for p in self.look() if (p.is_trial if kind == "trial" else p.is_raylet)]
        return found[0] if found else None


def make_study(folder: Path, *, trials: int, epochs: int = 15, rule: str = "none") -> Path:
    """Data and a study file of trials of `epochs` to twice as many epochs.

    rule: of early stopping.
    """
    # So many classes that no trial is always right: the others could not reach the front.
    make_demo(folder / "data", classes=9, size=64)
    path = folder / "study.yaml"
    path.write_text(
        _STUDY.format(
            name=_NAME,
            data=folder / "data",
            rule=rule,
            trials=trials,
            epochs=epochs,
            twice=2 * epochs,
        )
    )
    return path


def run_killed(
    search: Search, *, kills: int, seed: int, report: Callable[[Kill], None] = lambda _: None
) -> None:
    """Run a search to its end, with kills of each kind in turn on the way.

    Where its trials are used up before the kills are, it is given more of them.
    """
    rng = random.Random(seed)
    search.begin()
    for number in range(kills):
        kind = KINDS[number % len(KINDS)]
        while True:
            # A quarter hits the start of a session, before there is a trial.
            early = kind != "trial" and rng.random() < 0.25
            if search.kill(kind, delay=rng.uniform(0, 6), early=early):
                break
            if not search.finish():
                return
            search.trials += 4
            search.begin()
        report(search.kills[-1])
        if kind != "trial":
            search.begin()
    # A last resume finds a search that is over, and has nothing left to do.
    if search.finish():
        search.begin()
        search.finish()


def run_starved(
    search: Search, *, kills: int, seed: int, report: Callable[[Kill], None] = lambda _: None
) -> None:
    """Run a search of low memory to its own end, with so many kills on the way."""
    rng = random.Random(seed)
    search.begin()
    while len(search.kills) < kills and search.starve(delay=rng.uniform(0, 4)):
        report(search.kills[-1])
    search.finish()


def audit(search: Search, *, retrained: int) -> dict[str, list[str]]:
    """What is lost, doubled, stuck or wrong in a search that was killed; each a list of sentences.

    retrained: so many of the interrupted trials are trained again from the start, to compare.
    """
    trials = pq.read_table(search.run / "trials.parquet").to_pylist()
    epochs = pq.read_table(search.run / "epochs.parquet").to_pylist()
    finished, running, paused = search.stored()
    found = {"lost": [], "doubled": [], "stuck": list(search.stuck), "wrong": []}
    found["stuck"] += [f"trial {number} is RUNNING" for number in running]
    found["stuck"] += [f"trial {number} is paused" for number in paused]
    numbers = Counter(row["trial"] for row in trials)
    found["doubled"] += [
        f"trial {n} is there {times} times" for n, times in numbers.items() if times > 1
    ]
    found["lost"] += [f"trial {n} is missing" for n in range(max(numbers) + 1) if n not in numbers]
    num_begun = sum(row["epochs_trained"] > 0 for row in trials)
    if num_begun < search.trials:
        found["lost"].append(f"{num_begun} of {search.trials} trials were begun")
    for row in trials:
        _audit_trial(row, [epoch for epoch in epochs if epoch["trial"] == row["trial"]], found)
        state, values, _ = finished.get(row["trial"], (None, None, []))
        if state != row["state"] or (values and values[0] != row["accuracy"]):
            found["wrong"].append(f"trial {row['trial']}: the table differs from Optuna's storage")
    for kill in search.kills:
        for number, result in kill.finished.items():
            if finished.get(number) != result:
                found["wrong"].append(f"trial {number} was finished and then changed")
        for number, before in (kill.interrupted | kill.paused).items():
            if epochs_of(epochs, number)[: len(before)] != before:
                found["lost"].append(f"trial {number} did not go on from epoch {len(before)}")
        if kill.kind != "trial":  # else the driver may have removed it since
            without = [number for number, before in kill.paused.items() if not before]
            found["lost"] += [
                f"trial {number} was paused without a checkpoint" for number in without
            ]
    _audit_checkpoints(search.run, trials, found)
    found["wrong"] += _differing(search, trials, epochs, retrained)
    return found


def _audit_trial(
    row: dict[str, Any], epochs: list[dict[str, Any]], found: dict[str, list[str]]
) -> None:
    number = row["trial"]
    if row["state"] == "FAIL":
        found["lost"].append(f"trial {number} failed: {row['error']}")
    if row["state"] in ("RUNNING", "PAUSED"):
        found["stuck"].append(f"trial {number} is {row['state']} in the table")
    counted = Counter(epoch["epoch"] for epoch in epochs)
    if any(times > 1 for times in counted.values()):
        found["doubled"].append(f"trial {number} has an epoch twice")
    if sorted(counted) != list(range(1, row["epochs_trained"] + 1)):
        found["lost"].append(f"trial {number} lacks epochs: {sorted(counted)}")
    if row["state"] == "COMPLETE" and row["epochs_trained"] != row["epochs"]:
        found["wrong"].append(f"trial {number}: {row['epochs_trained']} of {row['epochs']} epochs")


def _audit_checkpoints(
    run: Path, trials: list[dict[str, Any]], found: dict[str, list[str]]
) -> None:
    """Exactly those of the front are on the disk."""
    complete = [row for row in trials if row["state"] == "COMPLETE"]
    losses = np.array([[-row["accuracy"], row["effective_gflops"]] for row in complete])
    front = {row["trial"] for row, on in zip(complete, pareto_front(losses), strict=True) if on}
    named = {row["trial"]: run / row["checkpoint"] for row in trials if row["checkpoint"]}
    there = {file.parent for file in run.glob("tune/*/*/*/training.pt")}
    if set(named) != front:
        found["lost"].append(f"the front is {sorted(front)}, checkpoints are of {sorted(named)}")
    found["lost"] += [f"{path} is missing" for path in set(named.values()) - there]
    found["wrong"] += [f"{path} is left over" for path in there - set(named.values())]


def _differing(
    search: Search, trials: list[dict[str, Any]], epochs: list[dict[str, Any]], retrained: int
) -> list[str]:
    """Interrupted trials that come out otherwise when they are trained without an interruption."""
    torch.set_num_threads(1)  # as each trial has
    data = open_data(search.study.parent / "data")
    rows = {row["trial"]: row for row in trials if row["state"] == "COMPLETE"}
    interrupted = {
        number
        for kill in search.kills
        for number, before in (kill.interrupted | kill.paused).items()
        if before
    }
    differing = []
    for number in sorted(interrupted & set(rows))[:retrained]:
        again = [
            metrics.accuracy for metrics in train(run_recipe(rows[number]), data, _quiet).history
        ]
        if again != [metrics.accuracy for metrics in epochs_of(epochs, number)]:
            differing.append(f"trial {number} has other accuracies than without an interruption")
    return differing


def _quiet(_: EpochMetrics) -> None:
    pass


def epochs_of(rows: list[dict[str, Any]], number: int) -> list[EpochMetrics]:
    """A trial's epochs in order; their seconds tell a resumed epoch from a repeated one."""
    rows = sorted((row for row in rows if row["trial"] == number), key=lambda row: row["epoch"])
    return [
        EpochMetrics.from_dict({name: value for name, value in row.items() if name != "trial"})
        for row in rows
    ]


def _history(file: Path) -> list[EpochMetrics]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # half a file, or one that is being removed
        return []
    return [EpochMetrics.from_dict(metrics) for metrics in state["history"]]


def _memory_threshold() -> dict[str, str]:
    """Ray's settings for a monitor that kills soon."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kilobytes = {words[0]: int(words[1]) for words in lines}
    total = kilobytes["MemTotal:"] * 1024
    most = total - kilobytes["MemAvailable:"] * 1024 + _MEMORY_MARGIN_BYTES
    return {
        "RAY_memory_usage_threshold": f"{most / total:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }


def _descendants(pid: int) -> Iterator[Process]:
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (stat := _read_stat(int(folder.name))) is not None:
            children[stat[0]].append(int(folder.name))
    found = list(children[pid])
    for child in found:  # grows as it goes
        found += children[child]
        if (process := _read_process(child)) is not None:
            yield process


def _read_stat(pid: int) -> tuple[int, str] | None:
    """Parent and start of a process; None where there is none, or only its exit status is left."""
    try:
        # pid (name) state parent ... started is the 22nd; the name may hold anything
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[1]), fields[19])


def _read_process(pid: int) -> Process | None:
    stat = _read_stat(pid)
    try:
        command = (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    return (
        Process(pid, stat[1], command.replace(b"\0", b" ").decode(errors="replace"))
        if stat
        else None
    )


def _working_folder(pid: int) -> Path | None:
    """A trial's process works in its trial's folder."""
    try:
        return (Path("/proc") / str(pid) / "cwd").readlink()
    except OSError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill a search over and over, and audit it.")
    parser.add_argument("--kills", type=int, default=21)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true", help="Have Ray kill trials for memory.")
    parser.add_argument("--rule", default="none", help="Early stopping, by its name.")
    parser.add_argument("--out", type=Path, help="Keep everything here; the default is temporary.")
    options = parser.parse_args()
    folder = (options.out or Path(tempfile.mkdtemp())).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    study = make_study(folder, trials=options.trials, rule=options.rule)
    search = Search(study, options.trials, low_memory=options.memory)
    started = time.monotonic()
    print(f"{'kill':>4} {'of':8}{'at':>8}{'driver ended':>14}{'all gone':>10}  interrupted")
    run = run_starved if options.memory else run_killed
    run(search, kills=options.kills, seed=options.seed, report=lambda kill: _show(search, kill))
    found = audit(search, retrained=5)
    interrupted = [before for kill in search.kills for before in kill.interrupted.values()]
    num_paused = sum(len(kill.paused) for kill in search.kills)
    print(
        f"{len(search.kills)} kills, {search.num_sessions} sessions, {search.trials} trials,"
        f" {time.monotonic() - started:.0f} s; trials interrupted {len(interrupted)} times, gone on"
        f" from a checkpoint {sum(map(bool, interrupted))} times, paused {num_paused} times"
    )
    for word, sentences in found.items():
        print(f"{word}: {len(sentences)}", *sentences, sep="\n  ")
    if any(found.values()):
        sys.exit(f"see {folder}")
    if options.out is None:
        shutil.rmtree(folder)


def _show(search: Search, kill: Kill) -> None:
    ended = "went on" if kill.ended_seconds is None else f"{kill.ended_seconds:.1f} s"
    cleared = "" if kill.cleared_seconds is None else f"{kill.cleared_seconds:.1f} s"
    going_on = ", ".join(
        [f"{n} from epoch {len(e)}" for n, e in kill.interrupted.items()]
        + [f"{n} paused at {len(e)}" for n, e in kill.paused.items()]
    )
    print(
        f"{len(search.kills):4} {kill.kind:8}{kill.at_seconds:6.1f} s{ended:>14}{cleared:>10}"
        f"  {going_on or '-'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
