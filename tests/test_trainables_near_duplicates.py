import io
from pathlib import Path

import numpy as np
import pytest
from made_up_images import detailed
from PIL import Image, ImageEnhance

from trainables.data.dataset import near_duplicates_of, open_data, read_sources
from trainables.data.near_duplicates import (
    HASH_BYTES,
    MOST_BITS,
    clusters,
    near_pairs,
    perceptual_hash,
)
from trainables.prepare import prepare


def scene(rng: np.random.Generator) -> Image.Image:
    blocks = rng.integers(0, 255, (10, 10, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8)))


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


def distance(one: Image.Image, other: Image.Image) -> tuple[int, int]:
    """Differing bits of each of the two hashes."""
    bits = [
        np.unpackbits(np.frombuffer(perceptual_hash(image.convert("RGB")) or b"", np.uint8))
        for image in (one, other)
    ]
    different = bits[0] != bits[1]
    return int(different[:64].sum()), int(different[64:].sum())


@pytest.mark.parametrize("seed", range(5))
def test_all_near_pairs_are_found_as_by_comparing_all_pairs(seed: int):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (500, HASH_BYTES), dtype=np.uint8)
    for row in range(200):  # others, with some bits flipped: about as many as the limit
        bits = np.unpackbits(hashes[row])
        for half in (0, 64):
            bits[half + rng.permutation(64)[: rng.integers(0, 15)]] ^= 1
        hashes[300 + row] = np.packbits(bits)
    bits = np.unpackbits(hashes, axis=1).astype(bool)
    differ = bits[:, None, :] != bits[None, :, :]
    near = (differ[..., :64].sum(2) <= MOST_BITS) & (differ[..., 64:].sum(2) <= MOST_BITS)
    expected = np.argwhere(np.triu(near, 1))
    assert len(expected) > 50
    np.testing.assert_array_equal(near_pairs(hashes), expected)


def test_equal_hashes_are_near_without_comparing_all_of_them():
    hashes = np.zeros((2000, HASH_BYTES), dtype=np.uint8)
    pairs = near_pairs(hashes)
    assert len(pairs) == 1999
    assert set(clusters(2000, pairs).tolist()) == {0}
    assert near_pairs(hashes[:0]).shape == (0, 2)


def test_clusters_are_numbered_and_rows_alone_are_in_none():
    pairs = np.array([[0, 3], [3, 5], [1, 4]])
    assert clusters(7, pairs).tolist() == [0, 1, -1, 0, 1, 0, -1]
    assert clusters(2, pairs[:0]).tolist() == [-1, -1]


@pytest.mark.parametrize("seed", range(20))
def test_images_saved_again_resized_cropped_and_brightened_are_near(seed: int):
    image = detailed(seed)
    for other in (
        saved_again(image, 40),
        image.resize((60, 60)),
        image.resize((250, 250)),
        image.crop((2, 1, 158, 159)),
        ImageEnhance.Brightness(image).enhance(0.9),
    ):
        assert max(distance(image, other)) <= MOST_BITS


def test_different_images_are_not_near():
    hashes = [perceptual_hash(detailed(seed)) or b"" for seed in range(150)]
    together = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)
    assert len(near_pairs(together)) == 0


def test_an_image_of_one_colour_has_no_hash():
    assert perceptual_hash(Image.new("RGB", (20, 20), (90, 90, 90))) is None


def test_of_twelve_scenes_at_four_qualities_and_two_sizes_none_lies_in_two_splits(tmp_path: Path):
    rng = np.random.default_rng(0)
    for name in "ab":
        folder = tmp_path / "source" / name
        folder.mkdir(parents=True)
        for number in range(6):
            image = scene(rng)
            for quality in (95, 90, 80, 70):
                for size in (80, 60):
                    image.resize((size, size)).save(
                        folder / f"{number}_{size}_{quality}.jpg", quality=quality
                    )
    data = prepare(str(tmp_path / "source"), tmp_path / "out", size=48)
    assert data.notes == ("near-duplicates: 96 images in 12 clusters, each in one split",)
    sources = read_sources(data.path)
    found = near_duplicates_of(data.path)
    for rows in found:
        assert len({data.splits[row] for row in rows}) == 1
        assert len({sources[row].split("_")[0] for row in rows}) == 1
    assert [len(rows) for rows in found] == [8] * 12
    alone = prepare(str(tmp_path / "source"), tmp_path / "alone", size=48, near_duplicates=False)
    assert (alone.notes, near_duplicates_of(alone.path)) == ((), [])
    assert alone.digest != data.digest


def save_burst(folder: Path, seed: int, frames: int) -> None:
    folder.mkdir(parents=True)
    for number in range(frames):
        image = ImageEnhance.Brightness(detailed(seed)).enhance(1 - 0.01 * number)
        image.save(folder / f"{number}.jpg")


def test_a_class_of_one_burst_is_split_all_the_same_and_told(tmp_path: Path):
    save_burst(tmp_path / "source" / "burst", 1, 10)
    (tmp_path / "source" / "others").mkdir()
    for number in range(10):
        for quality in (90, 60):
            path = tmp_path / "source" / "others" / f"{number}-{quality}.jpg"
            detailed(100 + number).save(path, quality=quality)
    data = prepare(str(tmp_path / "source"), tmp_path / "out", size=64)
    assert data.notes == (
        "near-duplicates: 30 images in 11 clusters, 1 of them in several splits, since the classes"
        " burst can't be split otherwise",
    )
    for rows in near_duplicates_of(data.path)[1:]:
        assert len({data.splits[row] for row in rows}) == 1


def test_near_duplicates_in_two_given_splits_are_told_and_stay(tmp_path: Path):
    for split, seeds in (("train", range(8)), ("val", range(6, 10)), ("test", range(10, 13))):
        for name, first in (("cat", 0), ("dog", 50)):
            folder = tmp_path / "source" / split / name
            folder.mkdir(parents=True)
            for seed in seeds:
                detailed(first + seed).save(folder / f"{seed}.jpg", quality=60 + len(split))
    data = prepare(str(tmp_path / "source"), tmp_path / "out", size=64)
    assert data.notes[-1] == (
        "near-duplicates: 8 images in 4 clusters, 4 of them in several splits, since given splits"
        " are kept"
    )
    folders = [source.split("/")[0] for source in read_sources(data.path)]
    wanted = [("train", "val", "test").index(folder) for folder in folders]
    np.testing.assert_array_equal(open_data(data.path).splits, wanted)
