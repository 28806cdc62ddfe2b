import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
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


FLOPWISE = Path(sys.executable).with_name("flopwise")
# Whatever a trial or Ray imports; each would say so.
SHADOWS = ("torchao", "torch", "numpy", "trainables", "spaces", "random", "socket", "sitecustomize")


def searched_from(
    folder: Path, *before: str | Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Search a folder's study from there; before: what runs the command."""
    return subprocess.run(
        [*before, FLOPWISE, "search", "study.yaml"],
        cwd=folder,
        env={**os.environ, "RAY_ADDRESS": "", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.own_ray
def test_no_file_of_the_current_folder_is_imported_and_a_long_tmpdir_does_no_harm(
    demo_data: ImageData, tmp_path: Path
):
    write_study(tmp_path, demo_data, budget={"trials": 1}, resources={"cpus": 1})
    told = tmp_path / "told"
    told.mkdir()
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(f"open({str(told / name)!r}, 'w')\nraise RuntimeError")
    long = tmp_path / ("x" * 80)
    long.mkdir()
    done = searched_from(tmp_path, env={"TMPDIR": str(long)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(told.iterdir()) == []
    assert not list(long.glob("flopwise-ray-*"))


@pytest.mark.own_ray
@pytest.mark.skipif(not shutil.which("uv"), reason="uv is not installed")
def test_a_search_under_uv_run_has_workers_of_its_own_environment(
    demo_data: ImageData, tmp_path: Path
):
    """Ray would begin workers through `uv run` too, where our packages are missing."""
    write_study(tmp_path, demo_data, budget={"trials": 1})
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
    )
    done = searched_from(tmp_path, "uv", "run", "--no-sync", "--offline")
    assert done.returncode == 0, done.stdout + done.stderr


def test_workers_have_the_drivers_priority_and_not_its_folder(two_workers: None):
    @ray.remote
    def see() -> tuple[list[str], int, dict[str, str]]:
        names = ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")
        return sys.path, os.nice(0), {name: os.environ.get(name, "") for name in names}

    path, priority, variables = ray.get(see.remote())
    assert priority == os.nice(0)
    assert not {"", ".", str(Path(sys.executable).parent)} & set(path)
    assert variables["RAY_AUTH_MODE"] == "token"
    assert len(variables["RAY_AUTH_TOKEN"]) == 64
    # The driver's own children, and other commands of its user, don't get the token.
    assert os.environ.get("RAY_AUTH_TOKEN") != variables["RAY_AUTH_TOKEN"]


def test_rays_ports_are_on_loopback_only(two_workers: None):
    [node] = ray.nodes()
    gcs_host, gcs_port = ray.get_runtime_context().gcs_address.split(":")
    assert {gcs_host, node["NodeManagerAddress"]} == {"127.0.0.1"}
    address = _own_address()
    if address is None:
        pytest.skip("this machine has no other address than loopback")
    for port in (int(gcs_port), node["NodeManagerPort"], node["ObjectManagerPort"]):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), timeout=10)


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_a_connection_without_the_token_is_refused(
    two_workers: None, token: str | None, tmp_path: Path
):
    ask = (
        "import sys; from ray._raylet import GcsClient\n"
        "GcsClient(sys.argv[1]).internal_kv_get(b'x')"
    )
    env: dict[str, Any] = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env |= {"HOME": str(tmp_path)}
    if token is not None:
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    done = subprocess.run(
        [sys.executable, "-c", ask, ray.get_runtime_context().gcs_address],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Unauthenticated" in done.stderr or "authentication" in done.stderr.lower()


def _own_address() -> str | None:
    """The address of this machine for others; no packet is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


def _all_processes() -> str:
    return subprocess.run(
        ["ps", "-A", "-ww", "-o", "args"], capture_output=True, text=True, check=True
    ).stdout
