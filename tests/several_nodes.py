"""Searches on several logical nodes: one of them bad, or lost. In a process with a Ray of its own.

    python tests/several_nodes.py bad FOLDER     # the processes of trials die on one of three nodes
    python tests/several_nodes.py lost FOLDER    # one of three nodes goes away under its trial

FOLDER holds a study file, and gets told.json: how the search ended, which nodes were tried, by
number, and whether one was lost. Ray writes what it likes to standard output.
"""

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster

from search.engine import Progress, run_search
from search.study.study import load_study
from trainables.trial import Trial

# Workers don't have tests/ to import from.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
SMALL = 80_000_000
FOLDER = "FLOPWISE_TEST_FOLDER"
NUM_NODES = 3


class OnABadNode(Trial):
    """Dies wherever a file with the node's name says so, once every node has got a trial.

    Ray begins processes as the machine has time for them: without waiting, all trials may be over
    before the last node's has begun.
    """

    def _run_epoch(self) -> list[dict[str, Any]]:
        node, folder = ray.get_runtime_context().get_node_id(), Path(os.environ[FOLDER])
        (folder / "tried" / node).touch()
        while len(list((folder / "tried").iterdir())) < NUM_NODES:
            time.sleep(0.05)
        if (folder / "bad" / node).exists():
            os._exit(1)
        return super()._run_epoch()


def main(what: str, folder: Path) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.environ[FOLDER] = str(folder)  # nodes have what this process has
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": SMALL},
    )
    # So many trials at a time die on the bad node that a row of them tells before it is spared.
    most = [3 if what == "bad" else 1, *[1] * (NUM_NODES - 1)]
    nodes = [cluster.add_node(wait=True, num_cpus=cpus, object_store_memory=SMALL) for cpus in most]
    keys = [node.node_id for node in nodes]
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    for name in ("bad", "tried"):
        (folder / name).mkdir()
    if what == "bad":
        (folder / "bad" / keys[0]).touch()
    lost: list[int] = []

    def watch(progress: Progress) -> None:
        under_way = [
            record for record in progress.ledger.records.values() if 2 <= len(record.epochs) < 20
        ]
        if what == "lost" and not lost and len(under_way) == NUM_NODES:
            lost.append(1)
            cluster.remove_node(nodes[0], allow_graceful=False)

    result = run_search(load_study(folder / "study.yaml"), show=watch, trainable=OnABadNode)
    tried = [keys.index(path.name) for path in (folder / "tried").iterdir()]
    message = {"ending": result.ending, "tried": sorted(tried), "lost": lost}
    (folder / "told.json").write_text(json.dumps(message))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
