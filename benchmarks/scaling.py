"""How a fixed list of trials gets shorter with more nodes: trials that sleep, on logical nodes.

    python benchmarks/scaling.py [--nodes 1 2 4 8] [--trials 48] [--seconds 6]

Every number of nodes runs in a process of its own, on a cluster of Ray's own `cluster_utils`: a
head without CPUs and so many nodes with one, each with a raylet and an object store of its own, all
on this machine. The search is flopwise as it is, with its ledger, journal, tables and checkpoints,
but an epoch sleeps, so that two cores do not hold eight nodes back.

The clock starts when a process is ready on every node: their start (they import torch) takes the
machine's cores, which real nodes would each have. It is told beside. It ends with the last trial.
Efficiency: time on one node / (nodes x time). What a network between the nodes costs is not in it.
`benchmarks/replay.py --scale` is the other half: a driver with 1,000 workers, simulated.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

OBJECT_STORE_BYTES = 80_000_000
EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="A list of sleeping trials on 1 to 8 nodes.")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=6.0, help="of a trial")
    parser.add_argument("--once", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        json.dump(run(options.once, options.trials, options.seconds), sys.stdout)
        return
    print(f"{options.trials} trials of {options.seconds:g} s, {EPOCHS} epochs each")
    print(f"{'nodes':>6}{'ready s':>10}{'time s':>10}{'at best s':>12}{'efficiency':>12}")
    one = None
    for nodes in options.nodes:
        figures = _in_its_own_process(nodes, options.trials, options.seconds)
        one = one or figures["seconds"] * nodes
        ideal = options.trials * options.seconds / nodes
        efficiency = one / (nodes * figures["seconds"])
        print(
            f"{nodes:6}{figures['ready']:10.1f}{figures['seconds']:10.1f}{ideal:12.1f}"
            f"{efficiency:12.1%}",
            flush=True,
        )


def _in_its_own_process(nodes: int, trials: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--once", str(nodes), "--trials", str(trials)]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{nodes} nodes failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run(nodes: int, trials: int, seconds: float) -> dict[str, float]:
    import ray
    from ray.cluster_utils import Cluster

    from search.engine import Progress, run_search
    from search.study.study import load_study
    from spaces.recipe import recipe_from
    from trainables.data.copying import open_near_data
    from trainables.data.demo_images import make_demo
    from trainables.training import EpochMetrics, Training
    from trainables.trial import Trial

    folder = Path(tempfile.mkdtemp())
    gate = folder / "gate"
    gate.mkdir()

    class Sleeping(Trial):
        """Our trainable with all of a trial but the work: an epoch sleeps.

        The first so many trials wait for each other, and end; one is on each node then.
        """

        def _run_epoch(self) -> list[dict[str, Any]]:
            if self._training is None:
                self._data = self._data or open_near_data(self._config["data"])
                self._training = Training(recipe_from(self._config["recipe"]), self._data)
            waits = self._config["number"] < nodes
            if waits:
                (gate / str(self._config["number"])).touch()
                while len(list(gate.iterdir())) < nodes:
                    time.sleep(0.01)
            else:
                time.sleep(seconds / EPOCHS)
            number = len(self._training.history) + 1
            epoch = {
                **dict.fromkeys(("train_loss", "train_accuracy", "val_loss"), 1.0),
                "epoch": number,
                "accuracy": 0.5,
                "learning_rate": 0.1,
                "seconds": 0.0,
            }
            self._training.history.append(EpochMetrics.from_dict(epoch))
            return [epoch]

    make_demo(folder / "data", classes=3, size=64)
    (folder / "study.yaml").write_text(
        "name: sleeping\ndata: {path: data}\nsampler: {name: random}\n"
        "early_stopping: {name: none}\n"
        f"budget: {{trials: {nodes + trials}}}\n"
        "space: {batch_size: [16, 32], input_size: [48, 56, 64], width: {float: [0.1, 1]},"
        f" learning_rate: {{log: [1.0e-4, 1.0e-1]}}, epochs: {EPOCHS}}}\n"
    )
    os.environ["FLOPWISE_CACHE"] = str(folder / "cache")
    started = time.time()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        },
    )
    for _ in range(nodes):
        cluster.add_node(wait=True, num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
    ray.init(address=cluster.address, log_to_driver=False)
    ready: list[float] = []
    ends: dict[int, float] = {}

    def note(progress: Progress) -> None:
        if not ready and len(list(gate.iterdir())) == nodes:
            ready.append(max(path.stat().st_mtime for path in gate.iterdir()))
        for record in progress.ledger.records.values():
            if record.state.is_finished() and record.number >= nodes:
                ends.setdefault(record.number, time.time())

    result = run_search(load_study(folder / "study.yaml"), show=note, trainable=Sleeping)
    counts = {record.state.name for record in result.ledger.records.values()}
    assert counts == {"COMPLETE"}, counts
    assert len(ends) == trials, f"{result.ending}: {len(ends)} of {trials} trials"
    return {"ready": ready[0] - started, "seconds": max(ends.values()) - ready[0]}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
