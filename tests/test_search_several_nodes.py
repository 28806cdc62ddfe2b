import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from searches import SPACE, write_study

from trainables.data.dataset import ImageData

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 24
TRIALS = 7


def search_on_nodes(what: str, folder: Path, data: ImageData) -> tuple[dict[str, Any], str]:
    """What tests/several_nodes.py came to, and what it warned of."""
    space = {**SPACE, "width": {"float": [0.1, 0.125]}, "epochs": EPOCHS}
    write_study(
        folder,
        data,
        space=space,
        sampler={"name": "random"},
        early_stopping={"name": "none"},
        dominated="keep",
        budget={"trials": TRIALS},
    )
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "several_nodes.py", what, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "told.json").read_text()), done.stderr


def trials_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(
        pa.BufferReader((folder / "runs" / "tiny" / "trials.parquet").read_bytes())
    ).to_pylist()


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_node_whose_trials_keep_dying_is_left_out_and_named_and_fails_no_trial(
    demo_data: ImageData, tmp_path: Path
):
    message, warned = search_on_nodes("bad", tmp_path, demo_data)
    assert message["tried"] == [0, 1, 2]
    assert warned.count("is left out: its trials keep dying") == 1
    rows = trials_of(tmp_path)
    assert [row["state"] for row in rows] == ["COMPLETE"] * TRIALS
    assert {row["error"] for row in rows} == {None}


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_trials_of_a_node_that_is_lost_go_on_elsewhere(demo_data: ImageData, tmp_path: Path):
    message, warned = search_on_nodes("lost", tmp_path, demo_data)
    assert message["lost"]
    assert "left out" not in warned
    rows = trials_of(tmp_path)
    assert [row["state"] for row in rows] == ["COMPLETE"] * TRIALS
    assert {row["epochs_trained"] for row in rows} == {EPOCHS}
    epochs = pq.read_table(tmp_path / "runs" / "tiny" / "epochs.parquet").to_pylist()
    assert set(Counter((row["trial"], row["epoch"]) for row in epochs).values()) == {1}
