import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.data.dataset import open_data, read_sources
from trainables.data.demo_images import make_demo

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_images_drawn_by_all_cores_are_those_of_the_demo(tmp_path: Path):
    command = [sys.executable, BENCHMARKS / "comparison" / "drawing.py", tmp_path / "drawn"]
    subprocess.run([*command, "--classes", "3", "--size", "32"], check=True, cwd=BENCHMARKS.parent)
    drawn = open_data(tmp_path / "drawn")
    demo = make_demo(tmp_path / "demo", classes=3, size=32)
    assert drawn.digest == demo.digest
    assert read_sources(drawn.path) == read_sources(demo.path)


@pytest.mark.slow
def test_every_check_of_a_gpu_runs_with_a_cpu_in_its_place(tmp_path: Path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--tiny", "--out", out]
    subprocess.run(command, check=True, cwd=BENCHMARKS.parent)
    figures = json.loads(out.read_text())
    names = "equal agree resume qat memory broken limits epochs frozen several"
    assert set(figures) == {"environment", *names.split()}
    assert figures["equal"]["fp32"] == 0
    assert figures["equal"]["tables are equal"] is True
    for one, other in (("cpu", "device in float32"), ("cpu", "device")):
        loss = [figures["agree"][f"mobilenet, {where}"]["train_loss"] for where in (one, other)]
        assert loss[0] == loss[1]
    for name in ("float", "qat", "qat with frozen blocks"):
        losses = figures["resume"][name]["losses, without a stop and resumed"]
        assert losses[0] == losses[1]
    trials = [value for value in figures["memory"].values() if isinstance(value, dict)]
    assert [trial["failure"] for trial in trials] == [None] * 4
