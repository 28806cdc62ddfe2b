import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from searches import SPACE

from search.cluster.head import Head
from search.cluster.submission import portable_study
from search.commands.searching import _options
from search.storage.code_version import ROOT, git_commit, stage_code
from search.study.study import load_study
from spaces.errors import UserError

SHARED = {"data": {"path": "/shared/data"}, "storage": "/shared/runs"}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "space": "quick", **SHARED, **changes}))
    return path


def test_a_study_says_the_same_elsewhere_with_its_space_and_recipes_in_it(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SPACE))
    (tmp_path / "best.yaml").write_text("{input_size: 52, width: 0.2, epochs: 1}")
    path = write(
        tmp_path,
        space="mine.yaml",
        enqueue=["best.yaml"],
        data={"path": "s3://bucket/animals"},
        constraints={"gflops": "<= 0.5"},
        resources={"cpus": 2, "gpus": 0.5},
        budget={"trials": 7, "plateau": {"percent": 1.0, "trials": 20}},
        warm_start=["/shared/runs/first"],
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    sent = elsewhere / "study.yaml"
    sent.write_text(portable_study(path))
    here, there = load_study(path), load_study(sent)
    assert there.resolved() == here.resolved()
    assert there.data == "s3://bucket/animals"
    assert there.space.enqueue[0].input_size == 52
    assert there.folder == Path("/shared/runs/tiny")
    # And what the command line narrows is narrowed there as it would be here.
    fixes = {"width": 0.1}
    assert load_study(sent, fixes=fixes).resolved() == load_study(path, fixes=fixes).resolved()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"path": "data/mine"}}, "data.path: data/mine: on a cluster, write a path"),
        ({"data": {"path": "~/mine"}}, "data.path: ~/mine"),
        ({"storage": "runs"}, "storage: runs: on a cluster"),
        ({"warm_start": ["runs/first"]}, "warm_start: runs/first"),
        ({"resources": "auto"}, "resources: auto would only probe"),
    ],
)
def test_what_only_this_machine_has_is_told_before_anything_is_sent(
    changes: dict[str, object], message: str, tmp_path: Path
):
    with pytest.raises(UserError, match=message) as error:
        portable_study(write(tmp_path, **changes))
    assert len(str(error.value).splitlines()) == 1


def test_every_mistake_is_told_at_once(tmp_path: Path):
    path = write(tmp_path, data={"path": "data"}, storage="runs", resources="auto")
    with pytest.raises(UserError) as error:
        portable_study(path)
    assert len(str(error.value).splitlines()) == 3


def test_options_are_said_again_as_they_were_written():
    words = _options(trials=3, hours=None, fix=["width=[0.1, 0.2]"], seed=0, resume=True)
    assert words == ["--trials=3", "--seed=0", "--fix=width=[0.1, 0.2]", "--resume"]
    assert _options(trials=None, hours=None, fix=None, seed=None, resume=False) == []


def test_staged_code_runs_without_the_checkout_and_knows_its_commit(tmp_path: Path):
    stage_code(tmp_path)
    code = (
        "from search.storage.code_version import ROOT, git_commit;"
        "import search.storage.run_folder as folder;"
        "print(ROOT, git_commit(), folder.package_version('flopwise'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": ""},
    )
    root, commit, version = done.stdout.split()
    assert root == str(tmp_path)
    assert commit == str(git_commit())
    assert version.count(".") == 2
    assert "tests" not in {path.name for path in tmp_path.iterdir()}


def test_a_file_that_is_no_clusters_is_told_in_a_line(tmp_path: Path):
    with pytest.raises(UserError, match="names no provider"):
        Head(write(tmp_path))
    with pytest.raises(UserError, match="there is no such file"):
        Head(tmp_path / "cluster.yaml")


def test_a_cluster_that_is_not_up_is_told_in_a_line(tmp_path: Path):
    path = tmp_path / "cluster.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "cluster_name": f"nowhere-{tmp_path.name}",
                "provider": {"type": "local", "head_ip": "192.0.2.77", "worker_ips": []},
                "auth": {"ssh_user": "nobody"},
            }
        )
    )
    # In a process of its own: Ray's tools leave files open.
    command = [sys.executable, "-m", "search.cli", "nodes", "--cluster", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"flopwise: {path}: ")
    assert "Traceback" not in done.stderr
