import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from search.cluster import ray_folder as module
from search.cluster.ray_folder import RayNotStartedError, ray_folder
from spaces.errors import UserError

LONGEST_SOCKET = 107
# What Ray 2.60 puts behind its folder, with the longest process number.
SOCKET = "session_2026-11-27_22-30-53_805055_4194304/sockets/plasma_store"


@pytest.fixture
def tmpdir_of(monkeypatch: pytest.MonkeyPatch):
    def use(folder: Path) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))

    return use


@pytest.fixture
def short(tmpdir_of):
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        tmpdir_of(Path(folder))
        yield Path(folder)


def test_the_folder_is_private_short_enough_for_sockets_and_removed(short: Path):
    with ray_folder() as folder:
        assert folder.is_relative_to(short)
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert len(os.fsencode(folder / SOCKET)) <= LONGEST_SOCKET
    assert list(short.iterdir()) == []


def test_rays_own_variable_says_where(
    short: Path, tmpdir_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tmpdir_of(tmp_path)
    monkeypatch.setenv("RAY_TMPDIR", str(short))
    with ray_folder() as folder:
        assert folder.is_relative_to(short)


def test_it_is_removed_after_an_error_too(short: Path):
    with pytest.raises(ZeroDivisionError), ray_folder():
        raise ZeroDivisionError
    assert list(short.iterdir()) == []


def test_it_keeps_the_logs_of_a_ray_that_did_not_start_until_the_next_one(short: Path):
    folders = []

    def fail() -> None:
        with ray_folder() as folder:
            folders.append(folder)
            raise RayNotStartedError("Ray did not start")

    with pytest.raises(RayNotStartedError):
        fail()
    assert folders[0].is_dir()
    with ray_folder():
        assert not folders[0].exists()


def test_a_temporary_folder_with_a_long_path_is_not_used(tmp_path: Path, tmpdir_of):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    tmpdir_of(long)
    with ray_folder() as folder:
        assert folder.is_relative_to("/tmp")  # noqa: S108
        assert len(os.fsencode(folder / SOCKET)) <= LONGEST_SOCKET
    assert list(long.iterdir()) == []


def test_without_any_folder_one_line_says_what_to_do(tmpdir_of, monkeypatch: pytest.MonkeyPatch):
    def refuse(**_: object) -> str:
        raise PermissionError(13, "Permission denied")

    tmpdir_of(Path("/" + "x" * 60))
    monkeypatch.setattr(module.tempfile, "mkdtemp", refuse)
    with (
        pytest.raises(UserError, match=r"too long .*can't write /tmp: Permission denied.*TMPDIR"),
        ray_folder(),
    ):
        pass


def test_what_a_killed_process_left_is_removed_and_nothing_else(short: Path):
    hold = (
        "import sys, tempfile, time; tempfile.tempdir = sys.argv[1]\n"
        "from search.cluster.ray_folder import ray_folder\n"
        "with ray_folder() as folder: print(folder, flush=True); time.sleep(600)"
    )
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", hold, short], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for _ in range(2)
    ]
    try:
        dead, alive = [Path(holder.stdout.readline().strip()) for holder in holders]  # pyright: ignore[reportOptionalMemberAccess]
        holders[0].kill()
        holders[0].wait()
        not_ours = short / "flopwise-something"
        new = short / "flopwise-ray-new"  # not locked yet
        old = short / "flopwise-ray-old"
        for folder in (not_ours, new, old):
            folder.mkdir()
        hour_ago = time.time() - 3600
        os.utime(old, (hour_ago, hour_ago))
        with ray_folder():
            assert not dead.parent.exists()
            assert not old.exists()
            assert alive.exists()
            assert not_ours.exists()
            assert new.exists()
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()
