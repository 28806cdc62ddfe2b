"""A cluster of three hosts, from `ray up` to `ray down`, as cluster-onpremise.yaml has it.

What differs from that file: the addresses, the key, the requirements (what is installed here), and
sizes: one CPU a worker, small object stores.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hosts import SHARED, Host, Lab, wait_for, what_is_lacking

from search.storage.optuna_storage import read_trials
from trainables.data.demo_images import make_demo

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)
RAY = PYTHON.with_name("ray")
GCS_PORT, DASHBOARD_PORT = 6379, 8265
SMALL = "--object-store-memory=80000000 --num-cpus="
TOKEN = "7" * 64
# Tables are written every two seconds, so a third of a trial has to take longer than that.
EPOCHS, TRIALS = 120, 6
STUDY = {
    "name": "tiny",
    "data": {"path": f"{SHARED}/data", "copy": True},
    "storage": f"{SHARED}/runs",
    "space": {
        "input_size": [48, 64],
        "width": {"float": [0.1, 0.125]},
        "batch_size": [16, 32],
        "learning_rate": {"log": [1.0e-3, 1.0e-2]},
        "epochs": EPOCHS,
    },
    "sampler": {"name": "random"},
    "early_stopping": {"name": "none"},
    "budget": {"trials": TRIALS},
}

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(what_is_lacking() is not None, reason=str(what_is_lacking())),
]


class Cluster:
    """The lab's hosts as one cluster, used from the laptop."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.head, *self.workers = lab.hosts
        self.file = lab.laptop.home / "cluster.yaml"
        self.study = lab.laptop.home / "study.yaml"
        self.run_folder = lab.shared / "runs" / "tiny"
        requirements = lab.laptop.home / "requirements.txt"
        pinned = [f"{name}=={version(name)}" for name in ("ray", "torch", "optuna", "pyarrow")]
        requirements.write_text("\n".join(pinned))
        token = lab.laptop.home / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text(TOKEN)
        token.chmod(0o600)
        config = yaml.safe_load((ROOT / "cluster-onpremise.yaml").read_text())
        config["provider"]["head_ip"] = self.head.address
        config["provider"]["worker_ips"] = [worker.address for worker in self.workers]
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(lab.key)}
        mounts = config["file_mounts"]
        mounts["~/cluster-requirements.txt"] = str(requirements)
        for kind, cpus in (("head", 0), ("worker", 1)):
            lines = config[f"{kind}_start_ray_commands"]
            start = lines[-1].replace("--num-cpus=0 ", "")
            lines[-1] = start.replace("ray start ", f"ray start {SMALL}{cpus} ")
        self.file.write_text(yaml.safe_dump(config))
        self.study.write_text(yaml.safe_dump(STUDY))
        for host in lab.hosts:
            # Where the set-up commands would make an environment, and find one.
            (host.home / "flopwise-env").symlink_to(PYTHON.parents[1])

    def ray(self, *words: object, **settings: Any) -> str:
        return self.lab.laptop.run(RAY, *words, **settings).stdout

    def flopwise(self, *words: object, **settings: Any) -> str:
        """flopwise on the laptop; the head does what it says."""
        command = [PYTHON, "-m", "search.cli", *words, "--cluster", self.file]
        return self.lab.laptop.run(*command, env={"PYTHONPATH": str(ROOT)}, **settings).stdout

    def nodes(self) -> list[dict[str, Any]]:
        return json.loads(self.flopwise("nodes", "--json"))

    def trials(self) -> list[dict[str, Any]]:
        """Rows of the table in the run folder, as far as the search is."""
        table = self.run_folder / "trials.parquet"
        return (
            pq.read_table(pa.BufferReader(table.read_bytes())).to_pylist() if table.exists() else []
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    lab = Lab(["head", "one", "two"])
    try:
        make_demo(lab.shared / "data", classes=12, size=64)
        cluster = Cluster(lab)
        cluster.ray("up", "--yes", "--no-config-cache", cluster.file, timeout=900)
        yield cluster
    finally:
        lab.tear_down()


def on(host: Host, row: dict[str, Any]) -> bool:
    return host.address in (row["ran_on"] or "")


def connects(asking: Host, address: str, port: int) -> bool:
    """Whether something takes connections there."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), timeout=5).close()"
    return asking.run(PYTHON, "-c", code, check=False).returncode == 0


def test_ray_up_brings_every_host_and_the_head_has_nothing_for_trials(cluster: Cluster):
    found: list[dict[str, Any]] = []

    def all_are_there() -> bool:
        found[:] = cluster.nodes()
        return len(found) == 3

    wait_for(all_are_there, 600, "all three nodes", every=10)
    head, *workers = found
    assert (head["address"], head["is_head"], head["cpus"]) == (cluster.head.address, True, 0)
    assert [node["address"] for node in workers] == [host.address for host in cluster.workers]
    assert [node["cpus"] for node in workers] == [1, 1]
    assert all(0 < node["memory_used_gb"] < node["memory_gb"] for node in found)
    assert all(0 <= node["cpu_used"] <= 1 for node in found)


def test_without_the_token_nothing_is_let_in(cluster: Cluster):
    address = f"{cluster.head.address}:{GCS_PORT}"
    code = (
        f"import ray; ray.init(address={address!r}, logging_level='ERROR');"
        "print('let in', len(ray.nodes()))"
    )

    def join(mode: str, home: Path) -> str:
        env = {"RAY_AUTH_MODE": mode, "HOME": str(home)}
        done = cluster.head.run(PYTHON, "-c", code, env=env, check=False, timeout=120)
        return done.stdout + done.stderr

    assert "let in 3" in join("token", cluster.head.home)
    stranger = cluster.head.home.parent / "stranger"
    (stranger / ".ray").mkdir(parents=True)
    assert "let in" not in join("disabled", stranger)
    (stranger / ".ray" / "auth_token").write_text("8" * 64)
    assert "let in" not in join("token", stranger)


def test_jobs_are_not_taken_without_the_token_either(cluster: Cluster):
    def submit(token: str) -> str:
        body = json.dumps({"entrypoint": "touch /srv/shared/was-here-" + token[:1]})
        return cluster.head.run(
            *(PYTHON, "-c", _POST, f"http://127.0.0.1:{DASHBOARD_PORT}/api/jobs/", body, token),
            check=False,
        ).stdout

    assert submit("").startswith("401")
    assert submit("8" * 64).startswith("403")
    assert submit(TOKEN).startswith("200")
    wait_for((cluster.lab.shared / "was-here-7").exists, 120, "the job of who has the token")
    assert not (cluster.lab.shared / "was-here-8").exists()


_POST = """
import sys, urllib.error, urllib.request
_, url, body, token = sys.argv
headers = {"Content-Type": "application/json"}
if token:
    headers["Authorization"] = f"Bearer {token}"
try:
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)) as answer:
        print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


def test_the_dashboard_answers_on_the_head_alone(cluster: Cluster):
    head = cluster.head.address
    assert connects(cluster.head, "127.0.0.1", DASHBOARD_PORT)
    assert connects(cluster.workers[0], head, GCS_PORT)
    for asking in (cluster.head, cluster.workers[0], cluster.lab.laptop):
        assert not connects(asking, head, DASHBOARD_PORT), asking.name


def test_a_search_loses_nothing_when_a_host_is_switched_off(cluster: Cluster):
    message = cluster.flopwise("search", cluster.study)
    assert "flopwise attach tiny" in message or "attach tiny" in message
    victim = cluster.workers[1]

    def both_train() -> bool:
        running = [row for row in cluster.trials() if row["state"] == "RUNNING"]
        return {worker for row in running for worker in cluster.workers if on(worker, row)} == {
            *cluster.workers
        }

    wait_for(both_train, 600, "a trial under way on each worker")
    seen = {node["address"]: node["trials"] for node in cluster.nodes()}
    assert seen[victim.address]
    before: list[dict[str, Any]] = []

    def is_far_enough() -> bool:
        # Far from the trial's end too: it must not be over by the time that the host is off.
        before[:] = cluster.trials()
        running = [row for row in before if row["state"] == "RUNNING" and on(victim, row)]
        complete = [row for row in before if row["state"] == "COMPLETE"]
        return bool(complete) and any(3 < row["epochs_trained"] < EPOCHS // 3 for row in running)

    wait_for(is_far_enough, 600, "a trial in its first third on the host to lose", every=0.1)
    victim.switch_off()
    log = cluster.flopwise("attach", "tiny", timeout=900)
    assert "succeeded" in log, log
    rows = cluster.trials()
    _audit(cluster, rows)
    assert not any(on(cluster.head, row) for row in rows)
    # What ran there when it went has gone on elsewhere.
    assert [row for row in rows if on(victim, row) and on(cluster.workers[0], row)]
    # What was complete before has not been touched.
    for row in before:
        if row["state"] == "COMPLETE":
            assert rows[row["trial"]]["accuracy"] == row["accuracy"]


def _audit(cluster: Cluster, rows: list[dict[str, Any]]) -> None:
    """Every trial once, complete, with each of its epochs once; the same in Optuna's storage."""
    assert [row["trial"] for row in rows] == list(range(TRIALS))
    assert {row["state"] for row in rows} == {"COMPLETE"}
    assert {row["epochs_trained"] for row in rows} == {EPOCHS}
    epochs = pq.read_table(cluster.run_folder / "epochs.parquet").to_pylist()
    assert set(Counter((row["trial"], row["epoch"]) for row in epochs).values()) == {1}
    assert len(epochs) == TRIALS * EPOCHS
    stored = read_trials(cluster.run_folder)
    assert [trial.state for trial in stored] == [optuna.trial.TrialState.COMPLETE] * TRIALS
    assert [trial.values[0] for trial in stored] == [row["accuracy"] for row in rows]


def test_data_was_copied_once_to_each_host_that_trained(cluster: Cluster):
    digest = json.loads((cluster.lab.shared / "data" / "data.json").read_text())["digest"]
    for host in cluster.workers:
        copies = list((host.home / ".cache" / "flopwise" / "data").iterdir())
        assert [copy.name for copy in copies] == [digest]
        files = {path.name for path in copies[0].iterdir() if not path.name.startswith(".")}
        assert files == {"data.json", "rows.arrow", "pixels.arrow"}


def test_the_run_says_of_which_commit_it_is_and_is_told_from_the_laptop(cluster: Cluster):
    study = yaml.safe_load((cluster.run_folder / "study.yaml").read_text())
    assert len(study["provenance"]["git_commit"] or "") >= 40
    status = json.loads(cluster.flopwise("status", f"{SHARED}/runs/tiny", "--json"))
    assert (status["complete"], status["failed"], status["searched"]) == (TRIALS, 0, False)


def test_ray_down_ends_ray_on_every_host(cluster: Cluster):
    assert "raylet" in cluster.workers[0].process_names()
    cluster.ray("down", "--yes", cluster.file, timeout=300)
    left = [host for host in cluster.lab.hosts if host.is_on]
    assert len(left) == 2
    for host in left:
        wait_for(lambda host=host: "raylet" not in host.process_names(), 180, "its end")
    assert "gcs_server" not in cluster.head.process_names()
