from pathlib import Path

import numpy as np
import pytest

from spaces.errors import UserError
from trainables.data.dataset import open_data
from trainables.data.demo_images import (
    FINE_CYCLES,
    MOST_CLASSES,
    class_counts,
    class_looks,
    draw_image,
    make_demo,
)


def test_151_classes_have_the_counts_of_the_seed_case():
    counts = class_counts(151, seed=0)
    assert (counts.sum(), counts.min(), counts.max()) == (6270, 26, 60)
    assert np.median(counts) == 36
    assert counts.mean() == pytest.approx(41.5, abs=0.05)
    assert counts.std() == pytest.approx(10.1, abs=0.05)


@pytest.mark.parametrize("classes", [2, 8, 24, 60])
def test_other_numbers_of_classes_have_like_counts(classes):
    counts = class_counts(classes, seed=5)
    assert len(counts) == classes
    assert (counts.min(), counts.max()) == (26, 60)
    assert counts.mean() == pytest.approx(41.5, abs=2)


def test_demo_data_can_have_many_times_the_images(tmp_path):
    thrice = make_demo(tmp_path / "demo", classes=4, size=16, times=3)
    np.testing.assert_array_equal(np.bincount(thrice.labels), 3 * class_counts(4, seed=0))


def test_demo_data_says_that_it_is_synthetic(tmp_path):
    data = make_demo(tmp_path / "demo", classes=4, size=16)
    assert data.synthetic
    assert data.name == "synthetic"
    assert data.classes == ("synthetic-001", "synthetic-002", "synthetic-003", "synthetic-004")
    assert "not photographs" in data.notes[0]
    assert len(data) == class_counts(4, seed=0).sum()
    np.testing.assert_array_equal(np.bincount(data.labels), class_counts(4, seed=0))
    for split in ("train", "validation", "test"):
        assert set(data.labels[data.rows(split)]) == {0, 1, 2, 3}


def test_equal_seeds_make_equal_data_and_other_seeds_other_data(tmp_path):
    digests = [
        make_demo(tmp_path / str(number), classes=2, size=8, seed=seed).digest
        for number, seed in enumerate([7, 7, 8])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_all_classes_look_different():
    looks = class_looks(MOST_CLASSES, seed=0)
    assert len({(look.shape, look.hue, look.coarse, look.fine) for look in looks}) == MOST_CLASSES
    assert class_looks(24, seed=0) == looks[:24]


def test_fine_patterns_vanish_at_low_resolution_and_nothing_else_tells_a_triple_apart():
    def energy(look, size):
        """Mean squared difference to the first of the triple, with all else equal."""
        first = class_looks(24, seed=0)[0]
        pair = [draw_image(one, 128, np.random.default_rng(1)) for one in (first, look)]
        small = [box_resize(image, size) for image in pair]
        return ((small[0] - small[1]) ** 2).mean()

    second = class_looks(24, seed=0)[1]
    assert energy(second, 128) > 10
    assert energy(second, 64) > 0.3 * energy(second, 128)
    assert energy(second, 16) < 0.02 * energy(second, 128)


def box_resize(image, size):
    step = len(image) // size
    return image.astype(float).reshape(size, step, size, step, 3).mean(axis=(1, 3))


def test_patterns_finer_than_the_pixels_are_left_out():
    looks = class_looks(24, seed=0)
    finest = [look for look in looks if look.fine_cycles == max(FINE_CYCLES)][:3]
    images = [draw_image(look, 32, np.random.default_rng(1)) for look in finest]
    np.testing.assert_array_equal(images[0], images[1])


@pytest.mark.parametrize("classes", [1, MOST_CLASSES + 1])
def test_a_number_of_classes_that_can_not_be_made_is_refused(tmp_path, classes):
    with pytest.raises(UserError, match=f"classes {classes}: 2 to {MOST_CLASSES}"):
        make_demo(tmp_path / "demo", classes=classes)
    assert not list(tmp_path.iterdir())


def test_progress_counts_images_and_an_interrupt_leaves_nothing(tmp_path):
    seen = []

    def progress(done: int, total: int | None) -> None:
        seen.append((done, total))
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path / "demo", classes=2, size=8, progress=progress)
    assert seen == [(done, 86) for done in range(1, 6)]
    assert not list(tmp_path.iterdir())


def test_demo_data_opens_again_from_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_demo(Path("demo"), classes=2, size=8)
    monkeypatch.chdir("/")
    assert open_data(made.path).digest == made.digest
