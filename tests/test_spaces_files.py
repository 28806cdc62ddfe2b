import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from spaces.errors import UserError
from spaces.files import (
    absolute,
    check_file,
    partial_name,
    read_file,
    remove_left_over,
    replace_file,
    whole_file,
)


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_regular_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x"
    assert message_of(lambda: read_file(path)) == f"{path}: there is no such file"
    path.mkdir()
    assert message_of(lambda: read_file(path)) == f"{path}: is a folder, not a file"
    os.mkfifo(tmp_path / "pipe")
    assert message_of(lambda: read_file(tmp_path / "pipe")).endswith("is a named pipe, not a file")
    with socket.socket(socket.AF_UNIX) as end:
        monkeypatch.chdir(tmp_path)  # a socket's path has 108 characters at most
        end.bind("end")
        assert message_of(lambda: read_file(tmp_path / "end")).endswith("is a socket, not a file")
    for device in ("/dev/zero", "/dev/null"):
        (tmp_path / "link").symlink_to(device)
        assert message_of(lambda: read_file(tmp_path / "link")).endswith("a device, not a file")
        (tmp_path / "link").unlink()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert "symbolic links" in message_of(lambda: read_file(tmp_path / "circle"))
    assert message_of(lambda: read_file(tmp_path / ("a" * 300))).endswith("File name too long")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 10**12)
    line = message_of(lambda: check_file(tmp_path / "large", what="table", most_bytes=10))
    assert line.endswith("has 1,000,000,000,000 bytes, too many for a table (at most 10 are read)")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "a.txt"
    replace_file(path, b"one")
    with suppress(KeyError), whole_file(path) as partial:
        partial.write_text("two")
        raise KeyError
    assert path.read_text() == "one"
    assert [child.name for child in tmp_path.iterdir()] == ["a.txt"]
    (tmp_path / "link").symlink_to(path)
    replace_file(tmp_path / "link", b"three")
    assert path.read_text() == "three"
    assert (tmp_path / "link").is_symlink()


def test_what_is_no_file_is_not_written_over(tmp_path: Path):
    assert message_of(lambda: replace_file(tmp_path, b"")).endswith("it is a folder; name a file")
    line = message_of(lambda: replace_file(Path("/dev/null"), b""))
    assert line == "can't write /dev/null: it is a device; name a file"
    line = message_of(lambda: replace_file(tmp_path / "no" / "a", b""))
    assert line == f"can't write {tmp_path}/no/a: there is no folder {tmp_path}/no"
    assert "home directory" in message_of(lambda: replace_file(Path("~nouser/x"), b""))
    assert "home directory" in message_of(lambda: absolute(Path("~nouser/x")))


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    replace_file(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        line = message_of(lambda: replace_file(path, b"x" * 5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert line == f"can't write {path}: File too large"
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_is_removed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    code = (
        "import os, pathlib; from spaces.files import partial_name\n"
        "for name in ('a', 'b'): pathlib.Path(partial_name(name)).touch()\n"
        "pathlib.Path(partial_name('c') + '-x1').mkdir()\n"
        "os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).resolve().parents[1]
    environment = {"PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    mine = tmp_path / partial_name("d")
    mine.touch()
    elsewhere = tmp_path / ".e.partial-elsewhere-1"
    elsewhere.touch()
    assert len(list(tmp_path.iterdir())) == 5
    remove_left_over(tmp_path, "b")
    assert len(list(tmp_path.iterdir())) == 4
    remove_left_over(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere])
    assert len(caplog.messages) == 3
    assert "which a killed process left" in caplog.messages[0]
    remove_left_over(tmp_path / "none")
