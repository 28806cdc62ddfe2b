import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from searches import once

from benchmarks.kill import (
    KINDS,
    Kill,
    Search,
    audit,
    make_study,
    run_killed,
    run_starved,
)

NOTHING = {"lost": [], "doubled": [], "stuck": [], "wrong": []}

pytestmark = [
    pytest.mark.own_ray,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are found in /proc"),
    pytest.mark.timeout(1800),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB; skips where this user may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_search_whose_driver_trial_and_raylet_are_killed_loses_nothing(tmp_path: Path):
    search = Search(make_study(tmp_path, trials=6), 6)
    run_killed(search, kills=3, seed=0)
    assert [kill.kind for kill in search.kills] == list(KINDS)
    assert audit(search, retrained=1) == NOTHING, search.log.read_text()


def test_a_search_whose_driver_was_killed_goes_on_in_a_wider_space_and_loses_nothing(
    tmp_path: Path,
):
    search = Search(make_study(tmp_path, trials=4), 4)
    search.begin()
    assert search.kill("driver", delay=4)
    written = search.study.read_text()
    wider = "batch_size: [8, 16, 32]\n  label_smoothing: [0.0, 0.1]"
    search.study.write_text(written.replace("batch_size: [8, 16]", wider))
    search.trials = 6
    search.begin()
    assert search.finish()
    assert audit(search, retrained=1) == NOTHING, search.log.read_text()
    assert "the space became wider: batch_size, label_smoothing" in search.log.read_text()


@pytest.mark.slow
def test_trials_that_ray_kills_for_memory_go_on_and_the_search_ends_by_itself(tmp_path: Path):
    search = Search(make_study(tmp_path, trials=6), 6, low_memory=True)
    run_starved(search, kills=3, seed=0)
    assert len(search.kills) == 3
    assert search.num_sessions == 1
    assert audit(search, retrained=1) == NOTHING, search.log.read_text()


def test_a_full_disk_ends_the_search_with_one_line_and_loses_nothing(
    two_workers: None, flopwise, small_disk: Path
):
    search = Search(make_study(small_disk, trials=6, epochs=10), 6)
    filler = small_disk / "filler"

    def fill() -> None:
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(16 << 20))

    with once(lambda: len(search.stored()[0]) >= 2, fill):
        code, _, complaint = flopwise("search", search.study, "--trials", 6)
    assert code == 2, complaint
    last = complaint.splitlines()[-1]
    assert "No space left on device" in last
    assert last.endswith("--resume")
    search.note(Kill(kind="full disk", at_seconds=search.seconds))
    filler.unlink()
    code, _, complaint = flopwise("search", search.study, "--trials", 6, "--resume")
    assert code == 0, complaint
    assert audit(search, retrained=1) == NOTHING, complaint
