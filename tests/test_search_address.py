import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pausing
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFile
from moto.server import ThreadedMotoServer
from optuna.trial import TrialState
from searches import write_study

from analysis.runs import read_run
from search.decisions.trial_record import TrialRecord
from search.storage.checkpoints import RemoteCheckpoints
from search.storage.fetched_run import adding_to, fetch_run
from search.storage.optuna_storage import JOURNAL, read_trials
from search.storage.remote_sync import RemoteSync, synced_run
from search.storage.run_folder import RunFolder
from search.storage.run_lock import Owner, is_searched
from search.study.remote_folder import RemoteFolder
from search.study.study import Study, load_study
from spaces.errors import UserError
from trainables.data.dataset import ImageData

FLOPWISE = Path(sys.executable).with_name("flopwise")
RUNS = "s3://bucket/runs"


@dataclass
class Store:
    """An object store on loopback, as a client finds it in the environment."""

    files: pafs.S3FileSystem

    def write(self, name: str, content: bytes) -> None:
        with self.files.open_output_stream(f"bucket/runs/{name}") as file:
            file.write(content)

    def names(self, below: str) -> list[str]:
        found = self.files.get_file_info(
            pafs.FileSelector(f"bucket/runs/{below}", recursive=True, allow_not_found=True)
        )
        return sorted(info.path.removeprefix("bucket/runs/") for info in found if info.is_file)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "flopwise")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{server}")
    files = pafs.S3FileSystem(
        endpoint_override=server, scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    files.create_dir("bucket")
    yield Store(files)
    files.delete_dir_contents("bucket")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Be on a machine of that name, with a disk of its own."""

    def be_on(name: str) -> None:
        monkeypatch.setenv("FLOPWISE_CACHE", str(tmp_path / name))
        monkeypatch.setattr("platform.node", lambda: name)

    be_on("first")
    return be_on


def study_at(tmp_path: Path, data: ImageData, storage: str = RUNS) -> Study:
    return load_study(write_study(tmp_path, data, storage=storage))


def begin(study: Study, data: ImageData, sync: RemoteSync | None) -> RunFolder:
    folder = RunFolder.create(study, data, sync)
    (folder.path / JOURNAL).write_bytes(b"1\n")
    return folder


def test_a_run_folder_is_brought_to_its_address_and_read_from_there_on_another_machine(
    tmp_path: Path, demo_data: ImageData, store: Store, machine
):
    study = study_at(tmp_path, demo_data)
    with synced_run(study, resume=False) as sync:
        assert sync is not None
        folder = begin(study, demo_data, sync)
        folder.write_tables([])
        sync.bring_all()
        machine("second")
        assert is_searched(fetch_run(f"{RUNS}/tiny"))
        machine("first")
        folder.write_tables([TrialRecord(number=0), TrialRecord(number=1)])
        with (folder.path / JOURNAL).open("ab") as file:
            file.write(b"2\nhalf a li")
        sync.bring_all()
        folder.close()
    machine("second")
    copy = fetch_run(f"{RUNS}/tiny/")
    assert copy.is_relative_to(tmp_path / "second")
    assert len(read_run(copy).trials) == 2
    assert (copy / JOURNAL).read_bytes() == b"1\n2\n"
    assert not is_searched(copy)


def test_what_is_removed_waits_until_the_journal_is_there(
    tmp_path: Path, demo_data: ImageData, store: Store, machine
):
    saved = [f"tiny/tune/session-001/trial-00003/checkpoint_00000{index}" for index in range(3)]
    for name in (*saved, "tiny/tune/session-001/trial-00003_ab12/checkpoint_000000"):
        store.write(f"{name}/training.pt", b"weights")
    study = study_at(tmp_path, demo_data)
    with synced_run(study, resume=False) as sync:
        assert sync is not None
        begin(study, demo_data, sync).close()
        checkpoints = RemoteCheckpoints(sync)
        assert checkpoints.new_session() == "session-002"
        found = checkpoints.of(3)
        assert len(found) == 4
        assert all(one.startswith(f"{RUNS}/tiny/tune/session-001/trial-00003") for one in found)
        assert checkpoints.of(30) == []
        kept = checkpoints.name(f"bucket/runs/{saved[1]}")
        checkpoints.keep(TrialRecord(number=3, state=TrialState.COMPLETE, checkpoint=kept))
        assert len(checkpoints.of(3)) == 4
        sync.bring_all()
        assert checkpoints.of(3) == [f"{RUNS}/{saved[1]}"]
        checkpoints.remove(kept)
        sync.bring_all()
        assert checkpoints.of(3) == []


def test_a_resume_takes_what_is_at_the_address_unless_this_machine_has_later_news(
    tmp_path: Path, demo_data: ImageData, store: Store, machine
):
    study = study_at(tmp_path, demo_data)

    def resumed() -> bytes:
        with synced_run(study, resume=True) as sync:
            assert sync is not None
            folder = RunFolder.reopen(study, demo_data, sync)
            journal = (folder.path / JOURNAL).read_bytes()
            (folder.path / JOURNAL).write_bytes(journal + b"2\n")
            sync.bring_all()
            (folder.path / JOURNAL).write_bytes(journal + b"2\n3\n")  # and then it is killed
            folder.close()
            return journal

    with synced_run(study, resume=False) as sync:
        assert sync is not None
        begin(study, demo_data, sync).close()
        sync.bring_all()
    assert resumed() == b"1\n"
    assert resumed() == b"1\n2\n3\n"
    machine("second")
    assert resumed() == b"1\n2\n3\n2\n"
    machine("first")  # what it has is now the older one
    assert resumed() == b"1\n2\n3\n2\n2\n"


def test_a_second_driver_is_refused_while_the_first_one_shows_signs_of_life(
    tmp_path: Path, demo_data: ImageData, store: Store, machine
):
    study = study_at(tmp_path, demo_data)
    with synced_run(study, resume=False):
        machine("second")
        with pytest.raises(UserError, match=r"another search is at work there, .* on first$"):
            synced_run(study, resume=False).__enter__()
    with synced_run(study, resume=False):
        pass
    dead = subprocess.Popen(["true"])
    dead.wait()
    for owner, is_at_work in (
        (Owner(copy="", host="second", process=dead.pid, until=time.time() + 100), False),
        (Owner(copy="", host="third", process=dead.pid, until=time.time() + 100), True),
        (Owner(copy="", host="third", process=dead.pid, until=time.time() - 1), False),
    ):
        assert owner.is_at_work == is_at_work
    assert store.names("tiny") == []


def test_a_run_at_an_address_is_never_overwritten_and_none_is_resumed_that_is_not_there(
    tmp_path: Path, demo_data: ImageData, store: Store, machine, flopwise
):
    path = write_study(tmp_path, demo_data, storage=RUNS)
    code, _, message = flopwise("search", path, "--resume")
    assert (code, message) == (
        2,
        f"flopwise: {RUNS}/tiny: no search was begun here; leave out --resume\n",
    )
    store.write("tiny/study.yaml", b"name: tiny\n")
    code, _, message = flopwise("search", path)
    assert code == 2
    assert message.startswith(f"flopwise: {RUNS}/tiny exists; continue it with --resume")
    assert store.names("tiny") == ["tiny/study.yaml"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "s3://nowhere-at-all/runs",
            "can't write s3://nowhere-at-all/runs/tiny/tune/driver.json: ",
        ),
        ("s3://bucket/runs?colour=red", "can't open s3://bucket/runs/tiny?colour=red: Unexpected"),
        (
            "teapot://short/stout",
            "can't open teapot://short/stout/tiny: Protocol not known: teapot",
        ),
        (
            "s3://bucket/runs?endpoint_override=127.0.0.1:9&scheme=http",
            "can't read s3://bucket/runs/tiny/tune/driver.json?endpoint_override=127.0.0.1:9&scheme"
            "=http: ",
        ),
    ],
)
def test_an_address_that_can_not_be_used_has_a_line_before_anything_is_made(
    address: str,
    message: str,
    tmp_path: Path,
    demo_data: ImageData,
    store: Store,
    machine,
    flopwise,
):
    code, _, line = flopwise("search", write_study(tmp_path, demo_data, storage=address))
    assert code == 2
    assert line.startswith(f"flopwise: {message}")
    assert len(line.splitlines()) == 1
    assert not list((tmp_path / "first").glob("runs/*/*"))


def test_what_is_no_run_at_an_address_has_a_line(store: Store, machine, flopwise):
    store.write("mine/study.yaml", b"name: mine\n")
    for address, message in (
        (f"{RUNS}", f"{RUNS} holds runs, name one: mine"),
        (f"{RUNS}/other", f"{RUNS}/other: there is no run"),
    ):
        assert flopwise("status", address) == (2, "", f"flopwise: {message}\n")


def test_what_a_command_adds_to_a_part_goes_to_the_address_but_for_its_checkpoints(
    store: Store, machine
):
    store.write("mine/study.yaml", b"name: mine\n")
    with adding_to(f"{RUNS}/mine", "confirm") as folder:
        (folder / "confirm/front/tune/session-001").mkdir(parents=True)
        for name in (
            "tested.parquet",
            "front/trials.parquet",
            "front/tune/session-001/training.pt",
        ):
            (folder / "confirm" / name).write_bytes(b"x")
        (folder / "export.png").write_bytes(b"x")
    assert store.names("mine") == [
        "mine/confirm/front/trials.parquet",
        "mine/confirm/tested.parquet",
        "mine/study.yaml",
    ]
    machine("second")
    assert (fetch_run(f"{RUNS}/mine") / "confirm/tested.parquet").read_bytes() == b"x"


@pytest.mark.own_ray
def test_paused_trials_go_on_elsewhere_from_their_checkpoints_at_the_address(
    tmp_path: Path, demo_data: ImageData, store: Store, machine
):
    path = write_study(
        tmp_path,
        demo_data,
        storage=RUNS,
        space={"width": {"float": [0.1, 0.125]}, "batch_size": 4, "input_size": 48, "epochs": 20},
        dominated="keep",
        early_stopping={"name": pausing.HALFWAY},
        budget={"trials": 6},
    )
    command = [sys.executable, pausing.__file__, "search", path]

    def rows(state: str) -> list[dict]:
        table = RemoteFolder(f"{RUNS}/tiny").read("trials.parquet")
        found = pq.read_table(pa.BufferReader(table)).to_pylist() if table else []
        return [row for row in found if row["state"] == state]

    def seconds() -> dict[tuple[int, int], float]:
        table = RemoteFolder(f"{RUNS}/tiny").read("epochs.parquet")
        found = pq.read_table(pa.BufferReader(table)).to_pylist() if table else []
        return {(row["trial"], row["epoch"]): row["seconds"] for row in found}

    lost = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while lost.poll() is None and not rows("PAUSED"):
        time.sleep(0.1)
    lost.send_signal(signal.SIGKILL)
    lost.wait()
    paused = rows("PAUSED")
    assert paused
    for row in paused:
        assert f"tiny/{row['checkpoint']}/training.pt" in store.names("tiny/tune")
    # These epochs are not trained again.
    waiting = {row["trial"] for row in paused}
    known = {key: spent for key, spent in seconds().items() if key[0] in waiting}
    assert known
    machine("second")
    env = {**os.environ, "FLOPWISE_CACHE": str(tmp_path / "second")}
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row["trial"] for row in rows("COMPLETE")} == {0, 1, 3, 4}
    assert {row["epochs_trained"] for row in rows("COMPLETE")} == {20}
    assert {(row["trial"], row["epochs_trained"]) for row in rows("PRUNED")} == {(2, 10), (5, 10)}
    saved = [name for name in store.names("tiny/tune") if name.endswith("training.pt")]
    assert {f"tiny/{row['checkpoint']}/training.pt" for row in rows("COMPLETE")} == set(saved)
    assert known.items() <= seconds().items()


def test_a_paused_trial_loses_no_checkpoint_that_is_saved_before_others_are_removed(
    tmp_path: Path, demo_data: ImageData, store: Store, machine
):
    below = "tiny/tune/session-001/trial-00003"
    study = study_at(tmp_path, demo_data)
    store.write(f"{below}/checkpoint_000000/training.pt", b"weights")
    store.write(f"{below}/checkpoint_000001/training.pt", b"weights")
    with synced_run(study, resume=False) as sync:
        assert sync is not None
        begin(study, demo_data, sync).close()
        checkpoints = RemoteCheckpoints(sync)
        kept = checkpoints.name(f"bucket/runs/{below}/checkpoint_000001")
        checkpoints.keep(TrialRecord(number=3, paused="later", checkpoint=kept))
        store.write(f"{below}/checkpoint_000002/training.pt", b"weights")  # it went on
        sync.bring_all()
        newest = [f"{RUNS}/{below}/checkpoint_00000{index}" for index in (2, 1)]
        assert checkpoints.of(3) == newest


def test_a_name_at_an_address_never_leads_out_of_the_copy():
    files = fsspec.filesystem("memory")
    for name in ("study.yaml", "../../outside"):
        files.store[f"/runs/mine/{name}"] = MemoryFile(files, f"/runs/mine/{name}", b"x")
    assert list(RemoteFolder("memory://runs/mine").list()) == ["study.yaml"]


@pytest.mark.own_ray
def test_a_head_that_is_lost_with_its_disk_goes_on_elsewhere_with_every_trial_once(
    tmp_path: Path, demo_data: ImageData, store: Store, machine, flopwise
):
    space = {"width": [0.1, 0.11, 0.125], "batch_size": [8, 16], "input_size": 48, "epochs": 8}
    path = write_study(
        tmp_path,
        demo_data,
        storage=RUNS,
        space=space,
        dominated="keep",
        early_stopping={"name": "none"},
        budget={"trials": 6},
    )
    lost = subprocess.Popen([FLOPWISE, "search", path], stdout=subprocess.DEVNULL)

    def finished() -> list[dict]:
        table = RemoteFolder(f"{RUNS}/tiny").read("trials.parquet")
        rows = pq.read_table(pa.BufferReader(table)).to_pylist() if table else []
        return [row for row in rows if row["state"] == "COMPLETE"]

    while lost.poll() is None and len(finished()) < 2:
        time.sleep(0.1)
    lost.send_signal(signal.SIGKILL)
    lost.wait()
    known = finished()
    machine("second")
    env = {**os.environ, "FLOPWISE_CACHE": str(tmp_path / "second")}
    done = subprocess.run(
        [FLOPWISE, "search", path, "--resume"], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    machine("third")
    code, message, _ = flopwise("status", f"{RUNS}/tiny", "--json")
    assert code == 0
    status = json.loads(message)
    assert (status["folder"], status["complete"]) == (f"{RUNS}/tiny", 6)
    copy = fetch_run(f"{RUNS}/tiny")
    trials = pq.read_table(copy / "trials.parquet").to_pylist()
    assert [row["trial"] for row in trials] == list(range(6))
    assert {row["state"] for row in trials} == {"COMPLETE"}
    assert [trial.state for trial in read_trials(copy)] == [TrialState.COMPLETE] * 6
    for row in known:
        again = trials[row["trial"]]
        assert (again["accuracy"], again["seconds"]) == (row["accuracy"], row["seconds"])
    kept = {row["checkpoint"] for row in trials if row["checkpoint"]}
    saved = [name for name in store.names("tiny/tune") if name.endswith("training.pt")]
    assert {f"tiny/{name}/training.pt" for name in kept} == set(saved)
    code, message, _ = flopwise("export", f"{RUNS}/tiny", "--format", "onnx", "--pick", "cheapest")
    assert code == 0, message
    assert len(list((tmp_path / "third").glob("read/*/tiny/export/trial-*.onnx"))) == 1
