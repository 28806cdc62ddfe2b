import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import UserError
from trainables.data.dataset import open_data

ROOT = Path(__file__).parents[1]
ODD_NAMES = ("cat [old]", 'x, "y"', "<b>bold<i>", "=1+1", ":smile:", "$a_b$")


def make_photos(folder: Path, names=("a", "b"), images: int = 6) -> Path:
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            rng = np.random.default_rng([label, number])
            pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "search.cli", *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(*arguments: object) -> tuple[int, str, str]:
    with start(*arguments) as process:
        output, errors = process.communicate()
    return process.returncode, output, errors


def test_prepare_append_and_show_tell_what_they_did(tmp_path: Path):
    source = make_photos(tmp_path / "source")
    for number in range(4):
        with Image.open(source / "a" / f"{number}.png") as image:
            image.resize((40, 40)).save(source / "a" / f"near{number}.jpg")
    out = tmp_path / "out"
    code, output, errors = run("data", "prepare", source, out, "--size", 16, "--group", r"\d")
    assert (code, errors) == (0, "")
    assert output.splitlines()[1:] == [
        "note: groups, each in one split: 6",
        "note: near-duplicates: 8 images in 4 clusters, each in one split",
    ]
    code, output, _ = run("data", "show", out, "--json")
    found = json.loads(output)["near_duplicates"]
    assert sorted(map(sorted, found)) == [[f"a/{n}.png", f"a/near{n}.jpg"] for n in range(4)]
    code, output, _ = run("data", "show", out)
    last = output.splitlines()[-1]
    assert last.startswith("largest clusters of near-duplicates: ")
    assert last.endswith("near-duplicates.png")
    with Image.open(tmp_path / "out-classes-near-duplicates.png") as picture:
        assert min(picture.size) > 300
    make_photos(tmp_path / "more", images=8)
    code, output, errors = run("data", "append", out, tmp_path / "more")
    assert (code, errors) == (0, "")
    assert "note: appended 4 images of more; 12 were there already" in output
    code, output, _ = run("data", "append", out, tmp_path / "more")
    assert (code, output.endswith("has all of these images already\n")) == (0, True)


def test_odd_names_of_classes_are_shown_as_they_are(tmp_path: Path):
    make_photos(tmp_path / "source", ODD_NAMES)
    code, output, errors = run(
        "data", "prepare", tmp_path / "source", tmp_path / "out", "--size", 16
    )
    assert (code, errors) == (0, "")
    code, output, _ = run("data", "show", tmp_path / "out")
    for name in ODD_NAMES:
        assert f"\n{name} " in output, name
    (tmp_path / "source" / ":smile:" / "0.png").write_text("no image")
    code, _, errors = run("data", "prepare", tmp_path / "source", tmp_path / "again")
    assert code == 2
    assert errors.startswith("flopwise: :smile:/0.png: not an image that Pillow knows")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_prepare_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals):
    source = make_photos(tmp_path / "source")
    Image.new("RGB", (3000, 2000)).save(source / "a" / "large.png", compress_level=1)
    for copy in range(300):  # long enough to be ended while it decodes
        os.link(source / "a" / "large.png", source / "a" / f"copy{copy}.png")
    process = start("data", "prepare", source, tmp_path / "out")
    with process:
        while process.poll() is None and not list(tmp_path.glob(".out.partial-*")):
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 130  # as after Ctrl-C
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_later_prepare_removes_what_a_killed_one_left_and_says_so(tmp_path: Path):
    source = make_photos(tmp_path / "source")
    with start("--version") as ended:
        ended.communicate()
    from spaces.files import partial_name

    left = tmp_path / f"{partial_name('out').rsplit('-', 1)[0]}-{ended.pid}-abc"
    left.mkdir()
    code, _, errors = run("data", "prepare", source, tmp_path / "out", "--size", 16)
    assert code == 0
    assert errors == f"removed {left}, which a killed process left\n"
    assert not left.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--column", "label"), "--column label: write WHAT=NAME, such as label=species"),
        (("--column", "label=x"), "--images and --column are for a table: name it with --table"),
        (("--splits", "folders"), "--splits folders needs a folder train, and one named"),
        (("--min-images", "7"), "--min-images 7: only 0 of 2 classes have as many different"),
        (("--group", "["), "--group [: is no regular expression: unterminated character set"),
        (("--table", "none.csv"), "none.csv: there is no such table"),
    ],
)
def test_options_that_can_not_work_are_one_line(tmp_path: Path, arguments, message: str):
    source = make_photos(tmp_path / "source")
    code, output, errors = run("data", "prepare", source, tmp_path / "out", *arguments)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert message in errors
    with pytest.raises(UserError):
        open_data(tmp_path / "out")
