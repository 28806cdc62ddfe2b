import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from spaces.errors import UserError
from trainables.data.image_table import PixelWriter, most_bytes, open_pixels


def random_images(count: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def write(path: Path, images: np.ndarray, **options: int) -> Path:
    with path.open("xb") as file, PixelWriter(file, images.shape[1], **options) as writer:
        for image in images:
            writer.append(image)
    return path


@pytest.mark.parametrize("batch_bytes", [1, 3 * 5 * 5 * 4, 10**6])
def test_rows_come_back_as_written_whatever_the_batches(tmp_path, batch_bytes):
    images = random_images(11, size=5)
    table = open_pixels(write(tmp_path / "p.arrow", images, batch_bytes=batch_bytes))
    rows = [10, 0, 3, 3, 4, 7]
    assert (len(table), table.size) == (11, 5)
    np.testing.assert_array_equal(table.take(rows), images[rows])
    np.testing.assert_array_equal(table.take(np.arange(11)), images)
    assert table.take([]).shape == (0, 5, 5, 3)


def test_taken_rows_are_copies_that_can_be_changed(tmp_path):
    images = random_images(3, size=4)
    table = open_pixels(write(tmp_path / "p.arrow", images))
    table.take([1])[:] = 0
    np.testing.assert_array_equal(table.take([1]), images[[1]])


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_is_not_there_is_an_index_error(tmp_path, row):
    table = open_pixels(write(tmp_path / "p.arrow", random_images(3, size=4)))
    with pytest.raises(IndexError, match="rows 0 to 2"):
        table.take([0, row])


def test_opening_allocates_no_pixels_and_taking_allocates_no_arrow_memory(tmp_path):
    path = write(tmp_path / "p.arrow", random_images(64, size=64))
    before = pa.total_allocated_bytes()
    table = open_pixels(path)
    table.take([1, 2])
    assert pa.total_allocated_bytes() - before < 64 * 1024


def test_the_writer_keeps_batches_below_their_bound(tmp_path):
    path = write(tmp_path / "p.arrow", random_images(50, size=8), batch_bytes=1000)
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        sizes = [reader.get_batch(number).nbytes for number in range(reader.num_record_batches)]
    assert sum(sizes) == 50 * 8 * 8 * 3
    assert max(sizes) <= 1000


def test_any_arrow_reader_understands_the_file(tmp_path):
    images = random_images(3, size=4)
    path = write(tmp_path / "p.arrow", images)
    with pa.memory_map(str(path)) as source:
        column = pa.ipc.open_file(source).read_all()["pixels"].combine_chunks()
    assert column.type == pa.fixed_shape_tensor(pa.uint8(), (4, 4, 3))
    np.testing.assert_array_equal(column.to_numpy_ndarray(), images)


def test_a_table_pickles_as_its_path(tmp_path):
    images = random_images(3, size=40)
    pickled = pickle.dumps(open_pixels(write(tmp_path / "p.arrow", images)))
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).take([2]), images[[2]])  # noqa: S301


def test_an_interrupted_write_can_not_be_opened(tmp_path):
    path = tmp_path / "p.arrow"

    def write_until_interrupted() -> None:
        with path.open("xb") as file, PixelWriter(file, 4, batch_bytes=1) as writer:
            writer.append(random_images(1, size=4)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_until_interrupted()
    with pytest.raises(UserError, match=r"p\.arrow: damaged"):
        open_pixels(path)


@pytest.mark.parametrize(("count", "size"), [(1, 4), (40, 300), (500, 64)])
def test_room_that_was_reserved_suffices_and_is_given_back(tmp_path, count, size):
    path = tmp_path / "p.arrow"
    with path.open("xb") as file:
        file.truncate(most_bytes(count, size))
        with PixelWriter(file, size) as writer:
            for image in random_images(count, size):
                writer.append(image)
    assert count * size**2 * 3 < path.stat().st_size <= most_bytes(count, size)
    assert len(open_pixels(path)) == count


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_a_file_cut_anywhere_is_damaged(tmp_path, kept):
    path = write(tmp_path / "p.arrow", random_images(20, size=8), batch_bytes=600)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=r"p\.arrow: damaged") as caught:
        open_pixels(path)
    assert "\n" not in str(caught.value)


def test_other_arrow_files_and_missing_ones_are_named(tmp_path):
    path = tmp_path / "p.arrow"
    with pytest.raises(UserError, match="no such file"):
        open_pixels(path)
    table = pa.table({"pixels": [1, 2]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as sink:
        sink.write_table(table)
    with pytest.raises(UserError, match="not a file of pixels"):
        open_pixels(path)
