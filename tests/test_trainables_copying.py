import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import UserError
from trainables.data.copying import copy_data, open_near_data
from trainables.data.dataset import ABOUT, ImageData, data_files
from trainables.prepare import append, prepare

ROWS, (PIXELS,) = data_files(1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("FLOPWISE_CACHE", str(folder))
    return folder


@pytest.fixture
def remote(demo_data: ImageData, tmp_path: Path) -> Path:
    """Prepared data that a test may damage."""
    return shutil.copytree(demo_data.path, tmp_path / "remote")


def same(one: ImageData, other: ImageData) -> bool:
    rows = np.arange(len(one))
    return one.digest == other.digest and np.array_equal(
        one.pixels.take(rows), other.pixels.take(rows)
    )


@pytest.mark.parametrize("kind", ["file://{}", "memory:/{}", "{}"])
def test_data_at_an_address_is_opened_from_a_copy(
    kind: str, remote: Path, cache: Path, demo_data: ImageData
):
    where = kind.format(remote)
    if kind.startswith("memory"):
        import fsspec

        files = fsspec.filesystem("memory")
        files.put(str(remote), str(remote), recursive=True)
        where = f"memory://{remote}"
    opened = open_near_data(where, copy=True)
    assert opened.path == cache / "data" / demo_data.digest
    assert same(opened, demo_data)


def test_a_folder_is_used_where_it_is_unless_a_copy_is_asked_for(remote: Path, cache: Path):
    assert open_near_data(remote).path == remote
    assert not cache.exists()


def test_a_copy_is_made_once_and_serves_without_the_pixels_of_its_source(
    remote: Path, cache: Path, demo_data: ImageData
):
    folder = copy_data(f"file://{remote}")
    made = (folder / PIXELS).stat().st_mtime_ns
    (remote / PIXELS).unlink()
    (remote / ROWS).unlink()
    assert copy_data(f"file://{remote}/") == folder
    assert (folder / PIXELS).stat().st_mtime_ns == made
    assert same(open_near_data(f"file://{remote}"), demo_data)


def _copy(where: str, made: "multiprocessing.Queue[int]") -> None:
    made.put((copy_data(where) / PIXELS).stat().st_ino)


def test_processes_that_want_the_same_copy_at_once_share_one(remote: Path, cache: Path):
    context = multiprocessing.get_context("fork")
    made: multiprocessing.Queue[int] = context.Queue()
    processes = [context.Process(target=_copy, args=(str(remote), made)) for _ in range(4)]
    for process in processes:
        process.start()
    inodes = {made.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert len(inodes) == 1


@pytest.mark.parametrize("name", [PIXELS, ROWS, ABOUT])
def test_one_byte_that_changed_on_the_way_is_found(name: str, remote: Path, cache: Path):
    path = remote / name
    content = bytearray(path.read_bytes())
    if name == ABOUT:
        about = json.loads(content)
        about["classes"][0] = "another"
        content = bytearray(json.dumps(about).encode())
    else:
        # Well within the pixels, or the labels of the rows.
        index = content.rindex(b"\x00" * 4) // 2 if name == PIXELS else _place_of_labels(content)
        content[index] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="the copy does not match data"):
        copy_data(f"file://{remote}")
    copies = [path for path in (cache / "data").glob("*/*") if not path.name.startswith(".")]
    assert copies == []


def _place_of_labels(content: bytearray) -> int:
    """The last byte of a run of equal labels, which are four bytes each."""
    return content.index(b"\x01\x00\x00\x00" * 8)


def test_half_a_file_is_found(remote: Path, cache: Path):
    os.truncate(remote / PIXELS, (remote / PIXELS).stat().st_size // 2)
    with pytest.raises(UserError, match="the copy does not match data"):
        copy_data(str(remote))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("{tmp}/nothing", "can't read prepared data"),
        ("file://{tmp}/nothing", "can't read prepared data"),
        ("teapot://short/stout", "can't read prepared data"),
    ],
)
def test_what_can_not_be_read_is_told_in_a_line(
    where: str, message: str, tmp_path: Path, cache: Path
):
    with pytest.raises(UserError, match=message) as error:
        copy_data(where.format(tmp=tmp_path))
    assert len(str(error.value).splitlines()) == 1


def test_a_digest_that_leads_elsewhere_is_refused(remote: Path, cache: Path):
    about = json.loads((remote / ABOUT).read_text())
    (remote / ABOUT).write_text(json.dumps({**about, "digest": "../../elsewhere"}))
    with pytest.raises(UserError, match="bad digest"):
        copy_data(str(remote))
    assert not cache.exists()


def test_data_that_has_grown_is_copied_with_all_of_its_files(cache: Path, tmp_path: Path):
    rng = np.random.default_rng(0)
    for part in ("first", "later"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(6):
                pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    prepare(str(tmp_path / "first"), tmp_path / "data", size=16)
    first = copy_data(str(tmp_path / "data"))
    data = append(tmp_path / "data", str(tmp_path / "later"))
    copied = open_near_data(str(tmp_path / "data"), copy=True)
    assert copied.path not in (first, data.path)
    assert same(copied, data)
    assert len(copied) == 24
