import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.system.cores import cpu_quota, num_cores

CPU_GROUPS = Path("/sys/fs/cgroup/cpu")


def made_up(tmp_path: Path, *, cgroup: str, mount: str, files: dict[str, str]) -> Path:
    """A process's folder below /proc, and the groups that it names."""
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "cgroup").write_text(cgroup)
    (tmp_path / "mountinfo").write_text(mount.format(groups=tmp_path / "groups"))
    return tmp_path


V2 = "38 31 0:38 / {groups} rw,relatime - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"a/b/cpu.max": "max 100000\n"}, None),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 50000\n"}, 4.0),
        ({"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"a/b/cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_the_smallest_quota_of_version_2_counts(
    tmp_path: Path, files: dict[str, str], cores: float | None
):
    assert cpu_quota(made_up(tmp_path, cgroup="0::/a/b\n", mount=V2, files=files)) == cores


@pytest.mark.parametrize(
    ("root", "path", "folder"),
    [
        ("/", "/a/b", "a/b"),
        ("/docker/abc", "/docker/abc", ""),  # the host's path, of which a container has the root
        ("/docker/abc", "/docker/abc/inner", "inner"),
        ("/", "/docker/abc", ""),
    ],
)
def test_the_quota_of_version_1_is_found_in_containers_too(
    tmp_path: Path, root: str, path: str, folder: str
):
    files = {"cpu.cfs_quota_us": "250000\n", "cpu.cfs_period_us": "100000\n"}
    mount = f"32 31 0:29 {root} {{groups}} rw shared:4 - cgroup cgroup rw,cpuacct,cpu\n"
    proc = made_up(
        tmp_path,
        cgroup=f"4:memory:/elsewhere\n2:cpuacct,cpu:{path}\n0::/\n",
        mount=mount,
        files={str(Path(folder) / name): content for name, content in files.items()},
    )
    assert cpu_quota(proc) == 2.5


def test_no_quota_of_version_1_is_minus_1(tmp_path: Path):
    files = {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}
    mount = "32 31 0:29 / {groups} rw - cgroup cgroup rw,cpu\n"
    assert cpu_quota(made_up(tmp_path, cgroup="1:cpu:/\n", mount=mount, files=files)) is None


def cores_of_a_new_process(before: str = "") -> int:
    command = f"{before} from trainables.system.cores import num_cores; print(num_cores())"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_affinity_counts():
    [first, *_] = os.sched_getaffinity(0)
    assert cores_of_a_new_process(f"import os; os.sched_setaffinity(0, [{first}]);") == 1


def test_a_real_quota_counts():
    group = CPU_GROUPS / f"flopwise-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("making a control group of version 1 is not permitted")
    try:
        (group / "cpu.cfs_quota_us").write_text("120000")
        (group / "cpu.cfs_period_us").write_text("100000")
        procs = str(group / "cgroup.procs")
        assert cores_of_a_new_process(f"open({procs!r}, 'w').write('0');") == 1
        (group / "cpu.cfs_quota_us").write_text("100000000")
        assert cores_of_a_new_process(f"open({procs!r}, 'w').write('0');") == num_cores()
    finally:
        group.rmdir()
