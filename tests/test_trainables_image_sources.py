import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spaces.errors import UserError
from trainables.data.dataset import ImageData, read_sources
from trainables.data.image_sources import folder_source
from trainables.data.opening import open_source
from trainables.data.splits import SPLITS
from trainables.prepare import prepare

SIZE = 16


@pytest.fixture
def noise() -> Iterator[Image.Image]:
    """Different images of noise, one after the other."""
    rng = np.random.default_rng(0)
    return (
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in iter(int, 1)
    )


def fill(folder: Path, count: int, noise: Iterator[Image.Image]) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        next(noise).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def own_splits(tmp_path: Path, noise: Iterator[Image.Image]) -> Path:
    for split, count in (("train", 12), ("validation", 4), ("test", 4)):
        for name in ("cat", "dog"):
            fill(tmp_path / "own" / split / name, count, noise)
    return tmp_path / "own"


def splits_of(data: ImageData) -> dict[str, str]:
    """Source -> split."""
    names = [SPLITS[split] for split in data.splits]
    return dict(zip(read_sources(data.path), names, strict=True))


def test_folders_of_splits_are_taken_to_the_image(own_splits: Path, tmp_path: Path):
    data = prepare(str(own_splits), tmp_path / "out", size=SIZE)
    assert data.classes == ("cat", "dog")
    found = splits_of(data)
    assert len(found) == 40
    assert all(source.split("/")[0] == split for source, split in found.items())
    assert data.notes[0] == (
        "splits are those of the folders train, validation, test; --splits random draws others"
    )


@pytest.mark.parametrize(("name", "written"), [("val", "Val"), ("valid", "valid")])
def test_splits_have_other_names_too(own_splits: Path, tmp_path: Path, name: str, written: str):
    (own_splits / "validation").rename(own_splits / written)
    (own_splits / "train").rename(own_splits / "training")
    data = prepare(str(own_splits), tmp_path / "out", size=SIZE)
    assert [len(data.rows(split)) for split in SPLITS] == [24, 8, 8]
    assert name in data.notes[0].lower()


def test_a_missing_validation_is_drawn_from_train_and_test_stays(own_splits: Path, tmp_path: Path):
    for file in (own_splits / "validation").rglob("*.png"):
        file.unlink()
    for folder in ("validation/cat", "validation/dog", "validation"):
        (own_splits / folder).rmdir()
    data = prepare(str(own_splits), tmp_path / "out", size=SIZE)
    found = splits_of(data)
    assert {split for source, split in found.items() if source.startswith("test")} == {"test"}
    assert {split for source, split in found.items() if source.startswith("train")} == {
        "train",
        "validation",
    }
    assert list(found.values()).count("validation") == 4  # 15 % of 12, of each class
    assert data.notes[1] == "own has no validation images: they are drawn from train"


def test_splits_random_draws_from_all_folders(own_splits: Path, tmp_path: Path):
    source = open_source(str(own_splits), splits="random")
    data = prepare(source, tmp_path / "out", size=SIZE)
    assert data.classes == ("cat", "dog")
    assert [len(data.rows(split)) for split in SPLITS] == [28, 6, 6]
    assert any(source.split("/")[0] != split for source, split in splits_of(data).items())


def test_splits_folders_insists_on_them(tmp_path: Path, noise: Iterator[Image.Image]):
    for name in ("train", "plane"):  # one word alone is a class
        fill(tmp_path / "vehicles" / name / "deeper", 4, noise)
    assert folder_source(tmp_path / "vehicles").classes == ("plane", "train")
    with pytest.raises(UserError, match="--splits folders needs a folder train, and one named"):
        folder_source(tmp_path / "vehicles", splits="folders")


def test_classes_of_one_split_and_other_folders_are_named(
    own_splits: Path, tmp_path: Path, noise: Iterator[Image.Image]
):
    fill(own_splits / "train" / "emu", 3, noise)
    fill(own_splits / "unlabelled", 3, noise)
    next(noise).save(own_splits / "loose.png")
    data = prepare(str(own_splits), tmp_path / "out", size=SIZE)
    assert data.classes == ("cat", "dog", "emu")
    assert data.notes[1:] == (
        "folders left out, since they are no split of class folders: unlabelled",
        "images left out, since they are in no class folder: 1",
        "classes without validation images: emu",
        "classes without test images: emu",
    )


def test_a_test_folder_without_classes_does_not_become_a_class(
    own_splits: Path, tmp_path: Path, noise: Iterator[Image.Image]
):
    for split in ("validation", "test"):
        for name in ("cat", "dog"):
            for file in (own_splits / split / name).iterdir():
                file.rename(own_splits / split / f"{name}{file.name}")
            (own_splits / split / name).rmdir()
    data = prepare(str(own_splits), tmp_path / "out", size=SIZE)
    assert (data.classes, len(data)) == (("cat", "dog"), 24)
    assert [len(data.rows(split)) for split in SPLITS] == [16, 4, 4]
    assert "test, validation" in data.notes[1]


def test_thumbnails_bins_and_metadata_of_systems_are_passed_over(
    tmp_path: Path, noise: Iterator[Image.Image]
):
    source = tmp_path / "source"
    for name in "ab":
        fill(source / name, 6, noise)
        fill(source / name / "@eaDir" / "1.png", 6, noise)
        (source / name / "Thumbs.db").write_bytes(b"x")
        (source / name / ".DS_Store").write_bytes(b"x")
        (source / name / "._1.png").write_bytes(b"x")
    for name in ("$RECYCLE.BIN", "#recycle", "__MACOSX", "lost+found"):
        fill(source / name / "deeper", 3, noise)
    data = prepare(str(source), tmp_path / "out", size=SIZE)
    assert (data.classes, len(data)) == (("a", "b"), 12)
    assert data.notes == (
        "files of systems, and hidden ones, passed over: 2 .DS_Store, 2 ._*, 2 Thumbs.db,"
        " 3 in #recycle, 3 in $RECYCLE.BIN, 12 in @eaDir, 3 in __MACOSX, 3 in lost+found",
    )


def test_what_is_no_photograph_is_counted_and_a_pipe_is_not_opened(
    tmp_path: Path, noise: Iterator[Image.Image]
):
    source = tmp_path / "source"
    for name in "ab":
        fill(source / name, 6, noise)
    for name in ("clip.mpg", "figure.eps", "paper.pdf"):
        (source / "a" / name).write_bytes(b"\0\0\1\xba" * 100)
    os.mkfifo(source / "a" / "z.jpg")
    data = prepare(str(source), tmp_path / "out", size=SIZE)
    assert data.notes == (
        "files passed over, since they are no photographs (.eps, .mpg, .pdf): 3",
        f"pipes, sockets and devices passed over: {source / 'a' / 'z.jpg'}",
    )
    # Under another name it is refused, and no other program is run.
    (source / "a" / "figure.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UserError, match=r"a/figure\.jpg: not an image that Pillow knows"):
        prepare(str(source), tmp_path / "again", size=SIZE)


def test_two_spellings_of_the_same_letters_are_one_class(
    tmp_path: Path, noise: Iterator[Image.Image]
):
    source = tmp_path / "source"
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for name in (composed, decomposed, "tea"):
        fill(source / name, 6, noise)
    data = prepare(str(source), tmp_path / "out", size=SIZE)
    assert data.classes == (composed, "tea")
    np.testing.assert_array_equal(np.bincount(data.labels), [12, 6])
    assert data.notes == ("folders whose names are spelt in two ways are one class: café",)


def test_names_that_are_no_utf8_are_escaped(tmp_path: Path, noise: Iterator[Image.Image]):
    source = tmp_path / "source"
    for name in "ab":
        fill(source / name, 6, noise)
    odd = os.fsdecode(b"caf\xe9")
    (source / "a").rename(source / odd)
    (source / "b" / "0.png").rename(source / "b" / f"{odd}.png")
    data = prepare(str(source), tmp_path / "out", size=SIZE)
    assert data.classes == ("b", r"caf\xe9")
    assert r"b/caf\xe9.png" in read_sources(data.path)


ODD_NAMES = ("cat [old]", 'x, "y"', "<b>bold<i>", "=1+1", ":smile:", "$a_b$", "a|b`c`")


def test_odd_names_of_classes_stay_as_they_are(tmp_path: Path, noise: Iterator[Image.Image]):
    for name in ODD_NAMES:
        fill(tmp_path / "source" / name, 4, noise)
    data = prepare(str(tmp_path / "source"), tmp_path / "out", size=SIZE)
    assert data.classes == tuple(sorted(ODD_NAMES))


@pytest.mark.parametrize("splits", ["auto", "random"])
def test_groups_by_folder_pattern_and_their_mistakes(
    tmp_path: Path, noise: Iterator[Image.Image], splits
):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for animal in range(6):
                fill(tmp_path / "own" / split / name / f"{name}{animal}", 2, noise)
    for rule in ("folder", r"([a-z]+\d)/", r"/\w+/"):
        source = open_source(str(tmp_path / "own"), splits=splits, group=rule)
        groups = {sample.path: sample.group for sample in source.samples()}
        # The same animal in two folders of splits is one group.
        assert len(set(groups.values())) == 12, rule
        out = tmp_path / f"{len(rule)}{splits}"
        data = prepare(source, out, size=SIZE)
        expected = {
            "auto": "groups: 12, of which 12 lie in several of the given splits: ",
            "random": "groups, each in one split: 12",
        }
        assert data.notes[-1].startswith(expected[splits])
    for rule, message in (
        ("(", "is no regular expression"),
        ("zebra", "matches no image, such as"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(str(tmp_path / "own"), group=rule)


def test_groups_that_leave_too_little_to_split_are_told_before_decoding(
    tmp_path: Path, noise: Iterator[Image.Image]
):
    for name in ("cat", "dog"):
        fill(tmp_path / "source" / name, 6, noise)
    source = open_source(str(tmp_path / "source"), group="folder")
    with pytest.raises(UserError, match=r"^2 of 2 classes .* groups, .* cat \(1\), dog \(1\);"):
        prepare(source, tmp_path / "out", size=SIZE)
