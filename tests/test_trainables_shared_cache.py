import errno
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from trainables.system.shared_cache import BoundedFolder


def put(folder: BoundedFolder, name: str, num_bytes: int) -> Path:
    return folder.make_once(name, num_bytes, lambda: lambda file, _: write(file, num_bytes))


def write(file: BinaryIO, num_bytes: int) -> None:
    file.write(b"x" * num_bytes)


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if not file.name.endswith(".lock")}


def age(folder: Path, *names: str) -> None:
    """Have the files been used an hour ago, the first one longest ago."""
    for seconds, name in enumerate(names):
        os.utime(folder / name, (10**9 + seconds, 10**9 + seconds))


def test_the_least_recently_used_files_go_when_the_bound_is_reached(tmp_path: Path):
    folder = BoundedFolder(tmp_path, 1000)
    for name in ("a", "b", "c"):
        put(folder, name, 300)
    age(tmp_path, "a", "b", "c")
    assert folder.find("a") == tmp_path / "a"  # which is a use
    put(folder, "d", 300)
    assert names_in(tmp_path) == {"a", "c", "d"}
    put(folder, "e", 1000)
    assert names_in(tmp_path) == {"e"}


def test_a_file_that_is_found_is_not_made_again(tmp_path: Path):
    folder = BoundedFolder(tmp_path, 1000)
    assert folder.find("a") is None
    path = put(folder, "a", 10)
    path.write_bytes(b"mine")
    assert put(folder, "a", 10).read_bytes() == b"mine"


def test_a_file_above_the_bound_is_refused_before_it_is_computed_and_nothing_goes_for_it(
    tmp_path: Path,
):
    folder = BoundedFolder(tmp_path, 1000)
    put(folder, "a", 600)
    with pytest.raises(OSError, match="1,000 bytes") as caught:
        folder.make_once("b", 1001, lambda: pytest.fail("computed"))
    assert caught.value.errno == errno.ENOSPC
    assert names_in(tmp_path) == {"a"}


def test_a_file_that_is_thrown_out_stays_with_those_that_read_it(tmp_path: Path):
    folder = BoundedFolder(tmp_path, 1000)
    with put(folder, "a", 600).open("rb") as file:
        put(folder, "b", 600)
        assert names_in(tmp_path) == {"b"}
        assert file.read() == b"x" * 600


def die_while_writing(folder: Path) -> None:
    def half(file: BinaryIO, _part: int) -> None:
        write(file, 300)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    BoundedFolder(folder, 1000).make_once("a", 600, lambda: half)


def kill_a_writer(folder: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=die_while_writing, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert any(".partial-" in name for name in names_in(folder))


@pytest.mark.parametrize("name", ["a", "another"])
def test_what_a_killed_writer_left_is_removed_by_the_next_of_any_file(tmp_path: Path, name: str):
    kill_a_writer(tmp_path)
    put(BoundedFolder(tmp_path, 1000), name, 900)  # for which the half file leaves no room
    assert names_in(tmp_path) == {name}


def write_slowly(folder: Path, started: str, go_on: str) -> None:
    def wait(file: BinaryIO, _part: int) -> None:
        (folder / started).touch()
        while not (folder / go_on).exists():
            pass
        write(file, 600)

    BoundedFolder(folder / "files", 1000).make_once("a", 600, lambda: wait)


def test_a_file_that_is_being_written_counts_and_is_left_alone(tmp_path: Path):
    arguments = (tmp_path, "started", "go on")
    process = multiprocessing.get_context("spawn").Process(target=write_slowly, args=arguments)
    process.start()
    while not (tmp_path / "started").exists():
        assert process.is_alive()
    folder = BoundedFolder(tmp_path / "files", 1000)
    try:
        put(folder, "b", 300)
        with pytest.raises(OSError, match="1,000 bytes"):
            put(folder, "c", 500)
    finally:
        (tmp_path / "go on").touch()
        process.join()
    assert names_in(tmp_path / "files") == {"a", "b"}


def write_parts(folder: Path, name: str, *, dies_at: int | None) -> None:
    """Write a file of 8 parts of 10 bytes, beside others; note which were written here."""

    def write_part(file: BinaryIO, part: int) -> None:
        with (folder / f"by-{name}").open("a") as noted:
            noted.write(str(part))
        if part == dies_at and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        # Until another process is there as well: it has written a part, or died of one.
        while len(list(folder.glob("by-*"))) == 1:
            pass
        file.seek(part * 10)
        file.write(str(part).encode() * 10)

    BoundedFolder(folder / "files", 1000).make_once("a", 80, lambda: write_part, num_parts=8)


@pytest.mark.parametrize("dies_at", [None, 0, 1])
def test_processes_share_a_file_out_and_write_what_one_that_dies_had_begun(
    tmp_path: Path, dies_at: int | None
):
    spawn = multiprocessing.get_context("spawn")
    # Who comes first has part 0, the other one part 1.
    processes = [
        spawn.Process(target=write_parts, args=(tmp_path, name), kwargs={"dies_at": dies_at})
        for name in ("one", "other")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    died = [process.exitcode for process in processes if process.exitcode]
    assert died == ([] if dies_at is None else [-signal.SIGKILL])
    made = (tmp_path / "files" / "a").read_bytes()
    assert made == b"".join(str(part).encode() * 10 for part in range(8))
    assert names_in(tmp_path / "files") == {"a"}
    written = [file.read_text() for file in tmp_path.glob("by-*")]
    assert len(written) == 2
    if dies_at is None:
        assert sorted("".join(written)) == list("01234567")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("can_reserve", [True, False])
def test_a_full_disk_is_an_os_error_and_leaves_nothing_behind(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, can_reserve: bool
):
    if not can_reserve:
        monkeypatch.delattr(os, "posix_fallocate")
    folder = BoundedFolder(small_disk, 10**9)
    with pytest.raises(OSError, match="No space left"):
        put(folder, "a", 2 * 2**20)
    assert names_in(small_disk) == set()
    put(folder, "b", 2**19)
