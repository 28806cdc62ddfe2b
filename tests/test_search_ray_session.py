import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from searches import write_study

from search.cluster.ray_session import joins_a_cluster
from trainables.data.dataset import ImageData

ROOT = Path(__file__).resolve().parents[1]


def test_a_cluster_is_joined_where_the_environment_names_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not joins_a_cluster()
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert not joins_a_cluster()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert joins_a_cluster()


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "nothing"])
def test_an_address_that_leads_nowhere_is_told_in_a_line(address: str):
    done = subprocess.run(
        [sys.executable, "-m", "search.cli", "nodes"],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "can't join the cluster's Ray" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.own_ray
def test_a_ray_that_does_not_start_ends_a_search_in_a_line_and_leaves_nothing(
    demo_data: ImageData, tmp_path: Path
):
    done = subprocess.run(
        [sys.executable, "-m", "search.cli", "search", write_study(tmp_path, demo_data)],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": "", "RAY_gcs_server_port_wait_time_s": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("flopwise: Ray did not start on this machine: Timed out waiting")
    assert not (tmp_path / "runs").exists()
    session = re.search(r"session_[0-9_-]+", line)
    assert session is not None
    # The system ends Ray's processes with ours, in its own time.
    while session[0] in _all_processes():
        time.sleep(0.1)


def _all_processes() -> str:
    return subprocess.run(
        ["ps", "-A", "-ww", "-o", "args"], capture_output=True, text=True, check=True
    ).stdout
