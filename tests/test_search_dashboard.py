"""optuna-dashboard on a run, served by the command as its user would have it."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from analysis_runs import four_trials, write_run
from optuna.study import StudyDirection

from search.storage.optuna_storage import JOURNAL, create_study

pytest.importorskip("optuna_dashboard")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_run(tmp_path_factory.mktemp("runs") / "mine", four_trials())
    study = create_study(path, "mine", [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
    study.tell(study.ask(), [0.9, 0.1])
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(run: Path, port: int) -> subprocess.Popen[str]:
    # A shell has processes in the background ignore Ctrl-C, and so would these.
    main = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        " from search.cli import main; main()"
    )
    command = [sys.executable, "-c", main, "dashboard", str(run), "--port", str(port)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    port = free_port()
    with serve(run, port) as server:
        assert server.stdout is not None
        message = server.stdout.readline()
        assert f"http://127.0.0.1:{port}" in message, server.stderr and server.stderr.read()
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGINT)
        assert server.wait() == 130


def get(address: str) -> dict:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address) as answer:  # noqa: S310 our own address
                return json.load(answer)
        except urllib.error.URLError:  # not listening yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_the_study_is_shown_with_its_trials(address: str):
    (study,) = get(f"{address}/api/studies")["study_summaries"]
    assert study["study_name"] == "mine"
    trials = get(f"{address}/api/studies/{study['study_id']}?after=0")["trials"]
    assert [trial["values"] for trial in trials] == [[0.9, 0.1]]


def test_nothing_can_be_changed(address: str, run: Path):
    before = (run / JOURNAL).read_bytes()
    request = urllib.request.Request(  # noqa: S310
        f"{address}/api/studies/0", method="DELETE", data=b"{}"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)  # noqa: S310
    refused.value.close()
    assert refused.value.code >= 400
    assert (run / JOURNAL).read_bytes() == before
    assert len(get(f"{address}/api/studies")["study_summaries"]) == 1


def test_a_port_that_is_taken_has_its_line(run: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serve(run, port) as server:
            _, message = server.communicate(timeout=120)
            assert server.returncode == 2
            assert f"port {port}: " in message
            assert "--port" in message
