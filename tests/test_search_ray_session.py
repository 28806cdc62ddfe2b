import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.ray_session import joins_a_cluster

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
