import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from spaces.errors import UserError
from trainables.data import dataset as images_module
from trainables.data.dataset import ImageData, near_duplicates_of, open_data, read_sources
from trainables.data.image_table import open_pixels
from trainables.data.writing import DataWriter, new_folder
from trainables.system.shared_cache import make_once


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FLOPWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_data(out: Path, *, size: int = 24, images: int = 20, seed: int = 0) -> ImageData:
    pixels = np.random.default_rng(seed).integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    with new_folder(out) as folder, DataWriter(folder, size) as writer:
        for row, image in enumerate(pixels):
            writer.append(image, row % 2, f"source-{row}")
        writer.finish(
            name="random",
            classes=["even", "odd"],
            synthetic=False,
            notes=["a note"],
            validation=0.2,
            test=0.2,
            seed=0,
        )
    return open_data(out)


def test_data_opens_as_it_was_written(tmp_path):
    data = make_data(tmp_path / "data")
    assert (data.name, data.size, data.classes) == ("random", 24, ("even", "odd"))
    assert (data.path, data.notes, data.synthetic) == (tmp_path / "data", ("a note",), False)
    np.testing.assert_array_equal(data.labels, np.repeat([0, 1], 10))
    originals = np.random.default_rng(0).integers(0, 256, (20, 24, 24, 3), dtype=np.uint8)
    numbers = [int(source.removeprefix("source-")) for source in read_sources(data.path)]
    assert sorted(numbers) == list(range(20))
    np.testing.assert_array_equal(np.array(numbers) % 2, data.labels)
    np.testing.assert_array_equal(data.pixels.take(range(20)), originals[numbers])
    again = pickle.loads(pickle.dumps(data.pixels))  # noqa: S301
    np.testing.assert_array_equal(again.take([3]), originals[[numbers[3]]])
    assert len(data) == len(data.pixels) == 20


def test_data_knows_what_it_has_grown_from(tmp_path):
    data = make_data(tmp_path / "data")
    assert data.grown_from == ()
    about = data.path / "data.json"
    content = json.loads(about.read_text())
    about.write_text(json.dumps({**content, "grown_from": ["0" * 32, "1" * 32]}))
    assert open_data(data.path).grown_from == ("0" * 32, "1" * 32)
    about.write_text(json.dumps({**content, "grown_from": ["first"]}))
    with pytest.raises(UserError, match="damaged; prepare the data again"):
        open_data(data.path)


def test_data_of_the_first_format_opens_with_its_rows_in_the_order_of_its_images(tmp_path):
    data = make_data(tmp_path / "data")
    images = data.pixels.take(range(20))
    positions = pa.ipc.open_file(data.path / "rows.arrow").read_all()["position"].to_numpy()
    # As it was written: rows in the order of images, and four columns.
    table = pa.ipc.open_file(data.path / "rows.arrow").read_all()
    table = table.take(pa.array(np.argsort(positions)))
    table = table.select(["label", "split", "digest", "source"])
    with pa.ipc.new_file(data.path / "rows.arrow", table.schema) as sink:
        sink.write_table(table)
    about = json.loads((data.path / "data.json").read_text())
    for key in ("generation", "stored", "fit", "bits", "source_notes"):
        del about[key]
    (data.path / "data.json").write_text(json.dumps({**about, "format_version": 1}))
    old = open_data(data.path)
    np.testing.assert_array_equal(old.labels, np.arange(20) % 2)
    np.testing.assert_array_equal(old.pixels.take(positions), images)
    assert (old.digest, old.fit, near_duplicates_of(old.path)) == (data.digest, "crop", [])


def test_the_splits_divide_the_rows(tmp_path):
    data = make_data(tmp_path / "data")
    train, validation, test = (data.rows(split) for split in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (12, 4, 4)
    assert sorted([*train, *validation, *test]) == list(range(20))
    assert train.dtype == data.labels.dtype == np.int64


def test_labels_and_splits_can_not_be_changed_by_accident(tmp_path):
    data = make_data(tmp_path / "data")
    with pytest.raises(ValueError, match="read-only"):
        data.labels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        data.splits[0] = 1


def test_the_digest_tells_different_data_apart(tmp_path):
    first = make_data(tmp_path / "first")
    assert first.digest == make_data(tmp_path / "again").digest
    assert first.digest != make_data(tmp_path / "other", seed=1).digest
    assert len(first.digest) == 32
    int(first.digest, 16)


def test_data_pickles_as_its_path(tmp_path, monkeypatch):
    make_data(tmp_path / "data", size=100)
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(open_data(Path("data")))
    monkeypatch.chdir("/")
    assert len(pickled) < 1000
    assert len(pickle.loads(pickled)) == 20  # noqa: S301


@pytest.mark.parametrize("input_size", [8, 17, 23])
def test_smaller_sizes_equal_pillows_antialiased_bilinear_filter(tmp_path, input_size):
    data = make_data(tmp_path / "data")
    resized = data.at_size(input_size)
    expected = [
        np.asarray(Image.fromarray(image).resize((input_size,) * 2, Image.Resampling.BILINEAR))
        for image in data.pixels.take(np.arange(20))
    ]
    np.testing.assert_array_equal(resized.take(np.arange(20)), expected)


def test_the_stored_size_is_the_stored_table(tmp_path, cache):
    data = make_data(tmp_path / "data")
    assert data.at_size(24) is data.pixels
    assert not cache.exists()


def test_a_size_above_the_stored_one_names_both_and_the_way_out(tmp_path):
    data = make_data(tmp_path / "data")
    with pytest.raises(UserError, match=r"input_size 25: .*images of 24 px; .*--size 25"):
        data.at_size(25)


def test_a_size_is_made_once_and_shared_by_equal_data(tmp_path, monkeypatch):
    first = make_data(tmp_path / "first").at_size(10)
    monkeypatch.setattr(images_module, "_resized", None)
    again = make_data(tmp_path / "again").at_size(10)
    np.testing.assert_array_equal(again.take([3]), first.take([3]))


def test_processes_that_start_at_once_get_the_same_images(tmp_path):
    data = make_data(tmp_path / "data", images=40)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(3) as pool:
        tables = pool.starmap(ImageData.at_size, [(data, 12)] * 3, chunksize=1)
    whole = [table.take(np.arange(40)) for table in tables]
    np.testing.assert_array_equal(whole[0], whole[1])
    np.testing.assert_array_equal(whole[0], whole[2])


def test_only_one_of_many_threads_makes_a_cached_file(tmp_path):
    made = []

    def make(partial: Path) -> None:
        made.append(partial)
        partial.write_text("content")

    path = tmp_path / "cache" / "deep" / "file"
    threads = [threading.Thread(target=make_once, args=(path, make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert path.read_text() == "content"
    assert [file.name for file in path.parent.iterdir() if not file.name.endswith(".lock")] == [
        "file"
    ]


def test_what_a_killed_maker_left_is_removed_by_the_next(tmp_path):
    left = tmp_path / ".file.partial-abc"
    left.mkdir()
    (left / "file").write_text("half")

    def make(partial: Path) -> None:
        partial.write_text("whole")

    make_once(tmp_path / "file", make)
    assert not left.exists()
    assert (tmp_path / "file").read_text() == "whole"


def test_a_failed_making_leaves_nothing_to_find(tmp_path, cache, monkeypatch):
    data = make_data(tmp_path / "data")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(images_module, "_resized", fail)
        with pytest.raises(KeyboardInterrupt):
            data.at_size(9)
    assert not list(cache.glob("**/*px.arrow"))
    assert len(data.at_size(9)) == 20


def test_a_cache_that_can_not_be_written_is_done_without(tmp_path, monkeypatch, caplog):
    data = make_data(tmp_path / "data")
    rows = [3, 0, 3, 19]
    expected = data.at_size(8).take(rows)
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLOPWISE_CACHE", str(tmp_path / "file"))
    resized = data.at_size(8)
    assert "images at 8 px are resized at every use: Not a directory" in caplog.text
    assert (len(resized), resized.size) == (20, 8)
    np.testing.assert_array_equal(resized.take(rows), expected)


def test_a_damaged_file_of_a_size_is_made_anew(tmp_path):
    data = make_data(tmp_path / "data")
    expected = data.at_size(8).take([3])
    data.file_at_size(8).write_bytes(data.file_at_size(8).read_bytes()[:-40])
    np.testing.assert_array_equal(data.at_size(8).take([3]), expected)
    assert len(open_pixels(data.file_at_size(8))) == 20


def test_the_least_recently_used_sizes_go_when_the_bound_is_reached(tmp_path, cache, monkeypatch):
    data = make_data(tmp_path / "data", images=200)
    monkeypatch.setenv("FLOPWISE_PIXELS_GB", "460e-6")
    for size in (16, 18, 16, 20):  # 154, 194 and 240 kB
        data.at_size(size)
    kept = {data.file_at_size(size) for size in (16, 20)}
    assert set(cache.glob("**/*px.arrow")) == kept
    monkeypatch.setenv("FLOPWISE_PIXELS_GB", "0")
    assert data.at_size(17).take([0]).shape == (1, 17, 17, 3)
    assert set(cache.glob("**/*px.arrow")) == kept


def test_a_missing_path_and_a_file_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        open_data(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: is a file"):
        open_data(tmp_path / "file")


def test_a_plain_image_folder_is_told_how_to_become_data(tmp_path):
    (tmp_path / "cats" / "lion").mkdir(parents=True)
    with pytest.raises(UserError, match=r"flopwise data prepare .*cats OUT"):
        open_data(tmp_path / "cats")


def test_an_unfinished_folder_is_refused_even_when_complete(tmp_path):
    data = make_data(tmp_path / "data")
    partial = data.path.rename(tmp_path / ".data.partial-x1")
    with pytest.raises(UserError, match="killed; delete it"):
        open_data(partial)


def test_a_newer_format_is_named(tmp_path):
    data = make_data(tmp_path / "data")
    about = json.loads((data.path / "data.json").read_text())
    (data.path / "data.json").write_text(json.dumps({**about, "format_version": 3}))
    with pytest.raises(UserError, match=r"newer flopwise \(format 3, but this one reads up to 2\)"):
        open_data(data.path)


@pytest.mark.parametrize("file", ["data.json", "rows.arrow", "pixels.arrow"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_every_truncated_file_is_one_clear_line(tmp_path, file, kept):
    data = make_data(tmp_path / "data")
    content = (data.path / file).read_bytes()
    (data.path / file).write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match="damaged; prepare") as caught:
        open_data(data.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["rows.arrow", "pixels.arrow"])
def test_missing_files_and_files_of_other_data_are_damage(tmp_path, file):
    data = make_data(tmp_path / "data")
    other = make_data(tmp_path / "other", images=30)
    (other.path / file).replace(data.path / file)
    with pytest.raises(UserError, match=r"prepare it again \((its files do not match|.*position)"):
        open_data(data.path)
    (data.path / file).unlink()
    with pytest.raises(UserError, match="damaged; prepare it again"):
        open_data(data.path)


@pytest.mark.parametrize("key", ["name", "classes", "digest", "images", "format_version"])
def test_a_description_without_one_of_its_keys_is_damage(tmp_path, key):
    data = make_data(tmp_path / "data")
    about = json.loads((data.path / "data.json").read_text())
    del about[key]
    (data.path / "data.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="damaged; prepare"):
        open_data(data.path)


def test_an_open_table_survives_the_removal_of_its_data(tmp_path):
    data = make_data(tmp_path / "data")
    table, file = data.at_size(8), data.file_at_size(8)
    expected = table.take([3])
    file.unlink()
    np.testing.assert_array_equal(table.take([3]), expected)
    with pytest.raises(UserError, match="no such file"):
        open_pixels(file)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": pa.array(["x"] * 20)}, "Failed to parse string: 'x'"),
        ({"label": pa.array([[1]] * 20)}, "Unsupported cast"),
        ({"label": pa.array([0] * 19 + [2])}, "a label names no class"),
        ({"label": pa.array([0] * 19 + [-1])}, "a label names no class"),
        ({"label": pa.array([0] * 19 + [None], pa.int32())}, "1 labels or splits are missing"),
        ({"label": pa.array([0.5] * 20)}, "was truncated"),
        ({"split": pa.array([3] * 20)}, "a row is in no split"),
        ({"split": pa.array([300] * 20)}, "300 not in range"),
        ({"split": None}, "split"),
    ],
)
def test_rows_of_other_kinds_are_told_in_a_line(tmp_path, changes, reason: str):
    data = make_data(tmp_path / "data")
    table = pa.ipc.open_file(data.path / "rows.arrow").read_all()
    for name, column in changes.items():
        table = table.drop_columns(name)
        if column is not None:
            table = table.append_column(name, column)
    with pa.ipc.new_file(data.path / "rows.arrow", table.schema) as sink:
        sink.write_table(table)
    with pytest.raises(UserError) as caught:
        open_data(data.path)
    assert reason in str(caught.value)
    assert "damaged; prepare it again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": "24"}, "size: '24' should be a valid integer"),
        ({"size": 10**9}, "size: 1000000000 should be less than or equal to 2048"),
        ({"classes": "even"}, "classes: 'even' is not a list"),
        ({"classes": ["even", 1]}, "classes.1: 1 should be a valid string"),
        ({"classes": ["even"]}, "a label names no class"),
        ({"digest": "../../x"}, "digest: '../../x' should match pattern"),
        ({"notes": None}, "notes: None is not a list"),
        ({"synthetic": "no"}, "synthetic: 'no' should be a valid boolean"),
        ({"format_version": {}}, "damaged; prepare the data again"),
        ({"format_version": 1e400}, "damaged; prepare the data again"),
    ],
)
def test_what_data_json_says_is_checked(tmp_path, changes, reason: str):
    data = make_data(tmp_path / "data")
    about = json.loads((data.path / "data.json").read_text())
    (data.path / "data.json").write_text(json.dumps({**about, **changes}))
    with pytest.raises(UserError) as caught:
        open_data(data.path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["data.json", "rows.arrow", "pixels.arrow"])
def test_pipes_and_folders_in_place_of_files_are_refused(tmp_path, name: str):
    data = make_data(tmp_path / "data")
    (data.path / name).unlink()
    os.mkfifo(data.path / name)
    with pytest.raises(UserError, match=rf"{name}: is a named pipe, not a file"):
        open_data(data.path)
    (data.path / name).unlink()
    (data.path / name).mkdir()
    with pytest.raises(UserError, match=rf"{name}: is a folder, not a file"):
        open_data(data.path)


def test_what_a_killed_prepare_left_is_removed_by_the_next(tmp_path, caplog):
    code = (
        "import os, sys; from pathlib import Path; from trainables.data.writing import new_folder\n"
        "with new_folder(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).resolve().parents[1]
    words = [sys.executable, "-c", code, tmp_path / "data"]
    subprocess.run(words, env={"PYTHONPATH": str(root)}, check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".data.partial-")
    with pytest.raises(UserError, match="left by a prepare that was killed"):
        open_data(left)
    make_data(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert caplog.messages == [f"removed {left}, which a killed process left"]
