import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_up_images import detailed
from PIL import Image, ImageOps
from torchvision import datasets

from spaces.errors import UserError
from trainables.data import image_sources
from trainables.data.dataset import open_data, read_sources
from trainables.data.image_files import BadImageError, Reading, Square, read_square
from trainables.data.opening import open_source
from trainables.data.splits import SPLITS
from trainables.prepare import append, prepare

ANIMALS = Path(__file__).parents[1] / ".." / "shared" / "data" / "animals25"
SIZE = 16


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FLOPWISE_CACHE", str(tmp_path / "cache"))


def random_rgb(seed: int, width: int = 20, height: int = 20) -> Image.Image:
    """Smooth random colours, so that JPEG keeps them nearly."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def make_source(folder: Path, *, classes: int = 2, images: int = 4) -> Path:
    for label in range(classes):
        (folder / f"class-{label}").mkdir(parents=True)
        for number in range(images):
            image = random_rgb(100 * label + number)
            image.save(folder / f"class-{label}" / f"{number}.png")
    return folder


def stored(source: Path, name: str, *, size: int = SIZE) -> np.ndarray:
    """Prepare a source and return the pixels of one image, (size, size, 3), as numbers."""
    data = prepare(str(source), source.parent / "prepared", size=size)
    row = read_sources(data.path).index(name)
    return data.pixels.take([row])[0].astype(int)


def pillow_square(image: Image.Image, size: int = SIZE) -> np.ndarray:
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)).astype(int)


def with_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Return an image with a transparent left half, and what it looks like on white."""
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (0, 0, image.width // 2, image.height))
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(image, mask=alpha)
    transparent = image.copy()
    transparent.putalpha(alpha)
    return transparent, on_white


def test_every_class_folder_becomes_a_class_in_sorted_order(tmp_path):
    source = make_source(tmp_path / "animals", classes=3, images=10)
    data = prepare(str(source), tmp_path / "out", size=SIZE)
    assert (data.name, data.size, data.synthetic, data.notes) == ("animals", SIZE, False, ())
    assert data.classes == ("class-0", "class-1", "class-2")
    np.testing.assert_array_equal(data.labels, np.repeat([0, 1, 2], 10))
    sources = read_sources(data.path)
    assert sorted(sources) == [f"class-{row // 10}/{row % 10}.png" for row in range(30)]
    for source, image in zip(sources, data.pixels.take(np.arange(30)), strict=True):
        original = random_rgb(100 * int(source[6]) + int(source[8]))
        np.testing.assert_allclose(image.astype(int), pillow_square(original), atol=1)


@pytest.mark.parametrize(
    ("name", "mode", "lossy"),
    [
        ("rgb.png", "RGB", False),
        ("rgb.bmp", "RGB", False),
        ("rgb.tiff", "RGB", False),
        ("rgb.webp", "RGB", True),
        ("rgb.jpg", "RGB", True),
        ("UPPER.JPEG", "RGB", True),
        ("grey.png", "L", False),
        ("grey.jpg", "L", True),
        ("grey.pgm", "L", False),
        ("bits.png", "1", False),
        ("palette.png", "P", False),
        ("palette.gif", "P", False),
        ("cmyk.tif", "CMYK", False),
        ("cmyk.jpg", "CMYK", True),
        ("ycbcr.tif", "YCbCr", False),
    ],
)
def test_every_mode_becomes_the_rgb_that_pillow_shows(tmp_path, name, mode, lossy):
    source = make_source(tmp_path / "source")
    image = random_rgb(7, 32, 32).convert(mode)
    image.save(source / "class-0" / name)
    pixels = stored(source, f"class-0/{name}")
    with Image.open(source / "class-0" / name) as opened:
        np.testing.assert_allclose(pixels, pillow_square(opened.convert("RGB")), atol=1)
    difference = abs(pixels - pillow_square(image.convert("RGB")))
    assert difference.mean() < (10 if lossy else 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_laid_on_white(tmp_path, mode):
    source = make_source(tmp_path / "source")
    image, on_white = with_alpha(random_rgb(7).convert("L" if mode == "LA" else "RGB"))
    if mode == "P":
        image = image.quantize(255)
        on_white = on_white.convert("RGB")
    image.save(source / "class-0" / "clear.png")
    pixels = stored(source, "class-0/clear.png")
    np.testing.assert_array_equal(pixels[:, : SIZE // 2 - 1], 255)
    tolerance = 40 if mode == "P" else 1
    expected = pillow_square(on_white.convert("RGB"))
    np.testing.assert_allclose(pixels, expected, atol=tolerance)


def test_a_palette_with_a_transparent_colour_is_laid_on_white(tmp_path):
    source = make_source(tmp_path / "source")
    image = Image.new("P", (20, 20), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (10, 0, 20, 20))
    image.save(source / "class-0" / "clear.gif", transparency=0)
    pixels = stored(source, "class-0/clear.gif")
    np.testing.assert_array_equal(pixels[:, :7], 255)
    np.testing.assert_array_equal(pixels[:, 9:], np.broadcast_to([200, 100, 50], (16, 7, 3)))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, name):
    source = make_source(tmp_path / "source")
    ramp = np.tile(np.linspace(0, 65535, SIZE).astype(np.uint16), (SIZE, 1))
    Image.fromarray(ramp).save(source / "class-0" / name)
    expected = np.rint(ramp / 257)[..., None].repeat(3, axis=2)
    np.testing.assert_array_equal(stored(source, f"class-0/{name}"), expected)


def test_float_grey_from_0_to_1_is_scaled_and_other_ranges_are_bad_images(tmp_path):
    source = make_source(tmp_path / "source")
    ramp = np.tile(np.linspace(0, 1, SIZE, dtype=np.float32), (SIZE, 1))
    Image.fromarray(ramp).save(source / "class-0" / "float.tif")
    expected = np.rint(ramp * 255)[..., None].repeat(3, axis=2)
    np.testing.assert_array_equal(stored(source, "class-0/float.tif"), expected)
    Image.fromarray(ramp * 1000).save(source / "class-1" / "wild.tif")
    with pytest.raises(
        UserError, match=r"class-1/wild\.tif: grey values from 0 to 1000; white is 1"
    ):
        prepare(str(source), tmp_path / "again", size=SIZE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_come_out_upright(tmp_path, orientation):
    source = make_source(tmp_path / "source")
    upright = random_rgb(7, 24, 24)
    # How a camera that was held so has stored it: the inverse of what a viewer does.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    held = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    held.save(source / "class-0" / "held.png", exif=exif)
    np.testing.assert_allclose(stored(source, "class-0/held.png"), pillow_square(upright), atol=1)


@pytest.mark.parametrize(("width", "height"), [(40, 16), (16, 40), (61, 33), (33, 62)])
def test_the_centre_square_is_kept(tmp_path, width, height):
    source = make_source(tmp_path / "source")
    image = random_rgb(3, width, height)
    image.save(source / "class-1" / "wide.png")
    expected = pillow_square(image)
    np.testing.assert_allclose(stored(source, "class-1/wide.png"), expected, atol=1)


def test_large_jpegs_keep_the_quality_of_a_full_decode(tmp_path):
    source = make_source(tmp_path / "source")
    random_rgb(5, 900, 700).save(source / "class-0" / "large.jpg", quality=95)
    with Image.open(source / "class-0" / "large.jpg") as image:
        expected = pillow_square(image, 64)
    difference = abs(stored(source, "class-0/large.jpg", size=64) - expected)
    assert difference.mean() < 1
    assert difference.max() <= 4


def test_smaller_images_are_enlarged_and_counted(tmp_path):
    source = make_source(tmp_path / "source")  # 8 images of 20 px
    random_rgb(77, 64, 64).save(source / "class-0" / "large.png")
    data = prepare(str(source), tmp_path / "out", size=32)
    assert data.notes == ("images smaller than 32 px that were enlarged: 8",)


def test_hidden_and_other_files_are_left_out_and_others_counted(tmp_path):
    source = make_source(tmp_path / "source")
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", "._0.png"):
        (source / "class-0" / name).write_bytes(b"no image")
    (source / ".git").mkdir()
    (source / ".git" / "x.png").write_bytes(b"no image")
    random_rgb(1).save(source / "loose.png")
    data = prepare(str(source), tmp_path / "out", size=SIZE)
    assert len(data) == 8
    assert data.notes == (
        "files of systems, and hidden ones, passed over: 1 .DS_Store, 1 ._*, 1 Thumbs.db, 1 hidden",
        "files passed over, since they are no photographs (.txt): 1",
        "images left out, since they are in no class folder: 1",
    )


def test_images_deeper_in_a_class_folder_belong_to_the_class(tmp_path):
    source = make_source(tmp_path / "source")
    (source / "class-1" / "deep" / "er").mkdir(parents=True)
    random_rgb(55).save(source / "class-1" / "deep" / "er" / "x.png")
    (source / "class-1" / "deep" / "circle").symlink_to(source / "class-1")
    data = prepare(str(source), tmp_path / "out", size=SIZE)
    assert "class-1/deep/er/x.png" in read_sources(data.path)
    assert data.labels.tolist() == [0] * 4 + [1] * 5


def break_some(source: Path) -> None:
    (source / "class-0" / "text.png").write_text("no image")
    (source / "class-1" / "empty.jpg").touch()
    whole = (source / "class-1" / "0.png").read_bytes()
    (source / "class-1" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (source / "class-1" / "gone.png").symlink_to("nowhere")


def test_all_unreadable_images_are_listed_with_their_reasons(tmp_path):
    source = make_source(tmp_path / "source")
    break_some(source)
    with pytest.raises(UserError) as caught:
        prepare(str(source), tmp_path / "out", size=SIZE)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == [
        "class-0/text.png",
        "class-1/cut.png",
        "class-1/empty.jpg",
        "class-1/gone.png",
    ]
    assert lines[0].endswith(": not an image that Pillow knows")
    assert "truncated" in lines[1]
    assert lines[3].endswith(": No such file or directory")
    assert lines[-1].startswith("4 of 12 images can't be read")
    kept = tmp_path / ".out.decoded"
    assert lines[-1].endswith(f"--skip-bad; what was decoded is kept in {kept} for the next try")
    assert sorted(tmp_path.iterdir()) == [kept, source]


def test_skip_bad_leaves_unreadable_images_out_and_lists_them(tmp_path):
    source = make_source(tmp_path / "source")
    whole = prepare(str(source), tmp_path / "whole", size=SIZE)
    break_some(source)
    data = prepare(str(source), tmp_path / "out", size=SIZE, skip_bad=True)
    assert data.digest == whole.digest
    assert data.notes[0] == "skipped class-0/text.png: not an image that Pillow knows"
    assert len(data.notes) == 4


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Returns a list to which each image file is added when it is decoded."""
    decoded: list[Path] = []
    real = image_sources.read_square

    def counted(path: Path, reading: Reading) -> Square:
        decoded.append(path)
        return real(path, reading)

    monkeypatch.setattr(image_sources, "read_square", counted)
    return decoded


def test_after_a_bad_image_the_next_try_decodes_nothing_again(tmp_path, monkeypatch):
    source = make_source(tmp_path / "source")
    (source / "class-1" / "z.png").write_text("no image")
    for size in (SIZE, 2 * SIZE):  # what was kept at another size is of no use
        with pytest.raises(UserError, match="1 of 9 images"):
            prepare(str(source), tmp_path / "out", size=size)
    decoded = count_decoded(monkeypatch)
    with pytest.raises(UserError, match="1 of 9 images"):
        prepare(str(source), tmp_path / "out", size=2 * SIZE)
    data = prepare(str(source), tmp_path / "out", size=2 * SIZE, skip_bad=True)
    assert {path.name for path in decoded} == {"z.png"}
    assert data.notes == (
        "skipped class-1/z.png: not an image that Pillow knows",
        "images smaller than 32 px that were enlarged: 8",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
    (source / "class-1" / "z.png").unlink()
    assert prepare(str(source), tmp_path / "whole", size=2 * SIZE).digest == data.digest


@pytest.mark.parametrize("side", [1100, 1500])  # Pillow warns above its limit, raises above 2x
def test_images_above_the_limit_of_pixels_are_told_with_the_way_out(tmp_path, monkeypatch, side):
    source = make_source(tmp_path / "source")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    Image.new("L", (side, side)).save(source / "class-0" / "scan.png")
    megapixels = {1100: 2, 1500: 3}[side]
    with pytest.raises(UserError) as caught:
        prepare(str(source), tmp_path / "out", size=SIZE)
    first, last = str(caught.value).splitlines()
    assert first == f"class-0/scan.png: {megapixels} megapixels; at most 1 are read"
    assert f"--max-megapixels {megapixels} reads the large ones" in last
    assert len(prepare(str(source), tmp_path / "others", size=SIZE, skip_bad=True)) == 8
    data = prepare(str(source), tmp_path / "out", size=SIZE, max_megapixels=megapixels)
    assert len(data) == 9
    assert Image.MAX_IMAGE_PIXELS == 10**6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "source: there is no such folder"),
        (lambda source: source.touch(), "source: is a file"),
        (lambda source: source.mkdir(), "no images in class folders .0 folders, 0 other files"),
        (lambda source: (source / "dog").mkdir(parents=True), "no images in class folders .1 fold"),
        (lambda source: make_source(source, classes=1), "source: has only one class, class-0"),
    ],
)
def test_sources_without_two_classes_of_images_are_one_clear_line(tmp_path, make, message):
    make(tmp_path / "source")
    with pytest.raises(UserError, match=message) as caught:
        prepare(str(tmp_path / "source"), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_classes_too_small_to_split_are_one_line_and_min_images_leaves_them_out(tmp_path):
    source = make_source(tmp_path / "source")
    (source / "empty").mkdir()
    (source / "copies").mkdir()
    for name in "abcd":
        random_rgb(1).save(source / "copies" / f"{name}.png")
    with pytest.raises(UserError, match=r"^1 of 4 classes have fewer than 3 .*: empty \(0\);"):
        prepare(str(source), tmp_path / "out", size=SIZE)
    (source / "empty").rmdir()
    with pytest.raises(
        UserError, match=r"^1 of 3 classes .*: copies \(1\); .*--min-images 3; what was dec"
    ):
        prepare(str(source), tmp_path / "out", size=SIZE)
    (source / "empty").mkdir()
    make_source(tmp_path / "two", images=2)
    (tmp_path / "two" / "class-0").rename(source / "few")
    data = prepare(str(source), tmp_path / "out", size=SIZE, min_images=3)
    assert data.classes == ("class-0", "class-1")
    assert data.notes == (
        "3 classes left out, with fewer than 3 different images: copies, empty, few",
    )
    with pytest.raises(UserError, match="only 0 of 5 classes have as many"):
        prepare(str(source), tmp_path / "none", size=SIZE, min_images=5)


def test_copies_share_a_split_and_are_noted(tmp_path):
    source = make_source(tmp_path / "source", images=12)
    for name, label in (("a", 0), ("b", 0), ("c", 1)):
        random_rgb(3).save(source / f"class-{label}" / f"{name}.png")  # as class-0/3.png
    data = prepare(str(source), tmp_path / "out", size=SIZE)
    sources = read_sources(data.path)
    copies = ["class-0/3.png", "class-0/a.png", "class-0/b.png", "class-1/c.png"]
    assert len({data.splits[sources.index(name)] for name in copies}) == 1
    assert data.notes == (
        "images that are copies of others (copies share a split): 3",
        "images that are in more than one class: 1",
    )


def test_equal_sources_and_seeds_make_equal_data(tmp_path):
    source = make_source(tmp_path / "source", images=30)
    digests = [
        prepare(str(source), tmp_path / str(number), size=SIZE, seed=seed).digest
        for number, seed in enumerate([0, 0, 1])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_progress_counts_every_image(tmp_path):
    seen = []
    source = make_source(tmp_path / "source")
    prepare(
        str(source), tmp_path / "out", size=SIZE, progress=lambda *numbers: seen.append(numbers)
    )
    assert seen == [(done, 8) for done in range(1, 9)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 7}, "size 7: images are stored at 8 to 2048 px"),
        ({"validation": 0.9, "test": 0.1}, "both must be above 0"),
    ],
)
def test_options_that_can_not_work_are_refused_before_anything_is_read(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        prepare("nowhere", tmp_path / "out", **options)


@pytest.mark.parametrize("kind", ["file", "empty folder", "data"])
def test_what_exists_is_never_overwritten(tmp_path, kind):
    source, out = make_source(tmp_path / "source"), tmp_path / "out"
    if kind == "file":
        out.touch()
    elif kind == "empty folder":
        out.mkdir()
    else:
        prepare(str(source), out, size=SIZE)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="out: exists already"):
        prepare(str(source), out, size=SIZE)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_prepare_leaves_nothing(tmp_path, error):
    source = make_source(tmp_path / "source")

    def interrupt(done: int, _total: int | None) -> None:
        if done == 5:
            raise error

    with pytest.raises(error):
        prepare(str(source), tmp_path / "out", size=SIZE, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def run_python(code: str, *arguments: object, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


KILL_HALFWAY = """
import os, signal, sys
from pathlib import Path
from trainables.prepare import append, prepare
from trainables.data.splits import SPLITS

def kill(done, total):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

prepare(sys.argv[1], Path(sys.argv[2]), size=16, progress=kill)
"""


def test_a_killed_prepare_leaves_nothing_that_looks_finished(tmp_path):
    source, out = make_source(tmp_path / "source"), tmp_path / "out"
    with run_python(KILL_HALFWAY, source, out) as process:
        assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    (partial,) = tmp_path.glob(".out.partial-*")
    with pytest.raises(UserError, match="killed; delete it and prepare again"):
        open_data(partial)
    assert len(prepare(str(source), out, size=SIZE)) == 8


WRITE_WITH_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from spaces.errors import UserError
from trainables.prepare import append, prepare
from trainables.data.splits import SPLITS

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    prepare(sys.argv[1], Path(sys.argv[2]), size=128)
except UserError as error:
    print(error)
"""


def test_a_disk_without_room_is_one_clear_line(tmp_path):
    source = make_source(tmp_path / "source")
    with run_python(WRITE_WITH_A_FULL_DISK, source, tmp_path / "out") as process:
        output, errors = process.communicate()
    assert output.splitlines() == [f"{tmp_path / 'out'}: can't be written: File too large"], errors
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


PEAK_MEMORY = """
import re, sys
from pathlib import Path
from trainables import prepare as module

module.open_data = lambda out: None  # mapped pages would count
prepare = module.prepare
prepare(sys.argv[1], Path(sys.argv[2]), size=512)
# Not ru_maxrss, which starts at what the parent process has.
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    peaks = []
    for images in (20, 140):
        source = make_source(tmp_path / f"source-{images}", images=images)
        with run_python(PEAK_MEMORY, source, tmp_path / f"out-{images}") as process:
            output, errors = process.communicate()
        assert process.returncode == 0, errors
        peaks.append(int(output) / 1024)
    # 240 more images of 0.75 MiB each are 180 MiB on disk.
    assert peaks[1] - peaks[0] < 60


class SmallFakeData(datasets.FakeData):
    def __init__(self) -> None:
        super().__init__(size=120, image_size=(3, 16, 16), num_classes=11)


class TwoParts(datasets.FakeData):
    classes = ("ant", "bee")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        assert root
        assert download
        super().__init__(20, (3, 16, 16), 2, random_offset=100 * train)


def test_torchvision_sets_without_names_of_classes_get_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "FakeData", SmallFakeData)
    data = prepare("torchvision:FakeData", tmp_path / "out", size=16)
    assert (data.name, len(data)) == ("FakeData", 120)
    assert data.classes[0] == "00"
    assert data.classes[10] == "10"
    image, label = SmallFakeData()[5]
    row = read_sources(data.path).index("FakeData part 1, image 5")
    assert label == data.labels[row]
    np.testing.assert_array_equal(data.pixels.take([row])[0], np.asarray(image))


def test_all_labelled_parts_of_a_torchvision_set_are_pooled(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", TwoParts)
    data = prepare("torchvision:CIFAR10", tmp_path / "out", size=16)
    assert (len(data), data.classes) == (40, ("ant", "bee"))
    assert "CIFAR10 part 2, image 0" in read_sources(data.path)


def test_an_unknown_torchvision_set_is_told_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"OxfordIIITPets: .*did you mean OxfordIIITPet\?"):
        prepare("torchvision:OxfordIIITPets", tmp_path / "out")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # urllib keeps the first one that it makes, with the proxies of that moment.
    monkeypatch.setattr("urllib.request._opener", None)


@pytest.mark.parametrize("name", ["CocoDetection", "Kitti"])
def test_torchvision_sets_without_one_class_an_image_are_refused(tmp_path, no_network, name):
    with pytest.raises(UserError, match=f"torchvision:{name}: "):
        prepare(f"torchvision:{name}", tmp_path / "out")


@pytest.mark.parametrize("name", ["OxfordIIITPet", "CIFAR10", "MNIST"])
def test_without_a_network_one_line_says_so(tmp_path, no_network, name):
    with pytest.raises(UserError, match=f"torchvision:{name}: could not be .*cache") as caught:
        prepare(f"torchvision:{name}", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not ANIMALS.exists(), reason="the shared photographs are not here")
def test_photographs_become_data(tmp_path):
    source = tmp_path / "three"
    source.mkdir()
    for name in ("cat", "lion", "tiger"):
        (source / name).symlink_to((ANIMALS / name).resolve())
    data = prepare(str(source), tmp_path / "out", size=64)
    assert len(data) == 360
    for split, count in zip(SPLITS, (84, 18, 18), strict=True):
        np.testing.assert_array_equal(np.bincount(data.labels[data.rows(split)]), [count] * 3)
    with Image.open(source / "cat" / "cat_000.jpg") as image:
        expected = pillow_square(image.convert("RGB"), 64)
    row = read_sources(data.path).index("cat/cat_000.jpg")
    difference = abs(data.pixels.take([row])[0].astype(int) - expected)
    assert difference.mean() < 2


def test_an_image_of_80_million_rows_is_refused_before_it_is_decoded(tmp_path: Path):
    path = tmp_path / "long.png"
    Image.new("1", (1, 300_000)).save(path)
    with pytest.raises(BadImageError, match=r"^1 x 300,000 px; sides above 250,000 px are not"):
        read_square(path, Reading(size=16))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadImageError, match=r"^is a named pipe, not an image$"):
        read_square(tmp_path / "pipe.png", Reading(size=16))
    Image.new("RGB", (20, 20)).save(tmp_path / "large.webp")
    os.truncate(tmp_path / "large.webp", 3 * 10**9)
    with pytest.raises(BadImageError, match=r"^has 3,000,000,000 bytes, too many for an image"):
        read_square(tmp_path / "large.webp", Reading(size=16))


def splits_by_source(path: Path) -> dict[str, int]:
    return dict(zip(read_sources(path), open_data(path).splits.tolist(), strict=True))


def test_appended_images_get_splits_and_the_others_keep_theirs(tmp_path, monkeypatch):
    source = make_source(tmp_path / "source", images=20)
    out = tmp_path / "out"
    data = prepare(str(source), out, size=SIZE, validation=0.2, test=0.2)
    earlier = splits_by_source(out)
    earlier_pixels = dict(
        zip(read_sources(out), open_data(out).pixels.take(range(40)), strict=True)
    )
    seen, digests = set(), [data.digest]
    for step, images in enumerate((30, 40)):
        for label in range(2):
            for number in range(images - 10, images):
                image = random_rgb(1000 + 100 * label + number)
                image.save(source / f"class-{label}" / f"{number}.png")
        if step:
            make_source(tmp_path / "third", images=10, classes=3)
            (tmp_path / "third" / "class-2").rename(source / "a new class")
        decoded = count_decoded(monkeypatch)
        data = append(out, str(source))
        monkeypatch.undo()
        assert len(decoded) == (20, 30)[step]
        assert not seen & set(decoded)
        seen.update(decoded)
        found = splits_by_source(out)
        assert {name: found[name] for name in earlier} == earlier
        earlier = found
        assert open_data(out).digest == data.digest
        assert data.grown_from == tuple(digests)
        digests.append(data.digest)
    assert data.classes == ("class-0", "class-1", "a new class")
    assert len(data) == 90
    table = np.zeros((3, 3), dtype=int)
    np.add.at(table, (data.labels, data.splits), 1)
    np.testing.assert_array_equal(table, [[24, 8, 8], [24, 8, 8], [6, 2, 2]])
    for name, image in zip(read_sources(out), data.pixels.take(range(90)), strict=True):
        if name in earlier_pixels:
            np.testing.assert_array_equal(image, earlier_pixels[name])
    assert sorted(path.name for path in out.iterdir()) == [
        *("data.json", "pixels-2.arrow", "pixels-3.arrow", "pixels.arrow", "rows-3.arrow"),
    ]
    assert data.notes[:2] == (
        "appended 20 images of source; 40 were there already",
        "appended 30 images of source; 60 were there already",
    )


def test_the_splits_of_appended_images_do_not_depend_on_the_order_of_files(tmp_path):
    source, more = make_source(tmp_path / "source"), make_source(tmp_path / "more", images=12)
    shutil.copytree(more, tmp_path / "renamed")
    for file in sorted((tmp_path / "renamed").rglob("*.png")):
        file.rename(file.with_name(f"{1000 - int(file.stem)}.png"))
    digests = set()
    for name in ("more", "renamed"):
        prepare(str(source), tmp_path / f"{name}-out", size=SIZE)
        digests.add(append(tmp_path / f"{name}-out", str(tmp_path / name)).digest)
    assert len(digests) == 1


def test_appended_copies_and_groups_go_where_the_others_are(tmp_path):
    names = [f"class-{label}/animal-{number}" for label in range(2) for number in range(10)]
    for place, quality in (("first", 95), ("later", 40)):
        for number, name in enumerate(names):
            folder = tmp_path / place / name
            folder.mkdir(parents=True)
            detailed(number, 96).save(folder / f"{place}.jpg", quality=quality)  # a near-duplicate
            detailed(100 + number + 50 * (place == "first"), 96).save(folder / f"{place}-b.jpg")
    out = tmp_path / "out"
    prepare(open_source(str(tmp_path / "first"), group="folder"), out, size=64)
    data = append(out, open_source(str(tmp_path / "later"), group="folder"))
    found = splits_by_source(out)
    for name in names:
        assert len({found[f"{name}/{file}.jpg"] for file in ("first", "later", "first-b")}) == 1
        assert found[f"{name}/later-b.jpg"] == found[f"{name}/first.jpg"]
    assert "groups, each in one split: 20" in data.notes
    assert "near-duplicates: 40 images in 20 clusters, each in one split" in data.notes


def test_an_append_that_fails_leaves_the_data_as_it_was(tmp_path, monkeypatch):
    source, out = make_source(tmp_path / "source"), tmp_path / "out"
    prepare(str(source), out, size=SIZE)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    more = make_source(tmp_path / "more", images=6)
    (more / "class-1" / "bad.png").write_text("no image")
    with pytest.raises(UserError, match=r"bad\.png.*\n1 of 13 images can't be read"):
        append(out, str(more))

    def interrupt(done: int, _total: int | None) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(out, str(more), skip_bad=True, progress=interrupt)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    decoded = count_decoded(monkeypatch)
    assert len(append(out, str(more), skip_bad=True)) == 12
    assert [path.name for path in decoded] == ["bad.png"]
    assert append(out, str(more), skip_bad=True).digest == open_data(out).digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["more", "out", "source"]


KILL_AN_APPEND = KILL_HALFWAY.replace("import prepare", "import append").replace(
    "prepare(sys.argv[1], Path(sys.argv[2]), size=16,", "append(Path(sys.argv[2]), sys.argv[1],"
)


def test_a_killed_append_leaves_the_data_as_it_was_and_the_next_one_cleans_up(tmp_path, caplog):
    source, out = make_source(tmp_path / "source"), tmp_path / "out"
    before = prepare(str(source), out, size=SIZE)
    more = make_source(tmp_path / "more", images=8)
    with run_python(KILL_AN_APPEND, more, out) as process:
        assert process.wait() == -signal.SIGKILL
    assert open_data(out).digest == before.digest
    assert len(append(out, str(more))) == 16
    assert "which a killed process left" in caplog.text
    assert len(list(out.iterdir())) == 4


def test_data_of_the_first_format_grows_too(tmp_path):
    source, out = make_source(tmp_path / "source", images=8), tmp_path / "out"
    prepare(str(source), out, size=SIZE)
    rows = pa.ipc.open_file(out / "rows.arrow").read_all()
    order = np.argsort(rows["position"].to_numpy())
    rows = rows.take(pa.array(order)).select(["label", "split", "digest", "source"])
    with pa.ipc.new_file(out / "rows.arrow", rows.schema) as sink:
        sink.write_table(rows)
    about = json.loads((out / "data.json").read_text())
    for key in ("generation", "stored", "fit", "bits", "source_notes"):
        del about[key]
    (out / "data.json").write_text(json.dumps({**about, "format_version": 1}))
    earlier = splits_by_source(out)
    random_rgb(3, 40, 40).save(source / "class-0" / "large.png")  # as class-0/3.png
    data = append(out, str(source))
    found = splits_by_source(out)
    assert {name: found[name] for name in earlier} == earlier
    assert len(data) == 17
    assert found["class-0/large.png"] == found["class-0/3.png"]
    assert "appended 1 images of source; 16 were there already" in data.notes


def test_what_can_not_be_appended_is_one_clear_line(tmp_path, monkeypatch, demo_data):
    source, out = make_source(tmp_path / "source"), tmp_path / "out"
    with pytest.raises(UserError, match="out: there is no such folder"):
        append(out, str(source))
    with pytest.raises(UserError, match="its images are synthetic"):
        append(demo_data.path, str(source))
    prepare(str(source), out, size=SIZE)
    monkeypatch.setattr(datasets, "FakeData", SmallFakeData)
    with pytest.raises(UserError, match="FakeData: has no names of classes"):
        append(out, "torchvision:FakeData")
    few = make_source(tmp_path / "few", images=2, classes=3)
    with pytest.raises(
        UserError, match=r"^1 of 1 classes have fewer .*: class-2 \(2\); .*-images 3; what"
    ):
        append(out, str(few))
    assert append(out, str(few), min_images=3).digest == open_data(out).digest
