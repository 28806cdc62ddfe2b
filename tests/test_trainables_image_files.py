import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from spaces.errors import UserError
from trainables.data.dataset import read_sources
from trainables.data.image_files import (
    BadImageError,
    NeedsMoreError,
    Reading,
    content_digest,
    read_square,
)
from trainables.prepare import prepare

SIZE = 16
ROOT = Path(__file__).parents[1]


def write_png16(path: Path, values: np.ndarray) -> None:
    """Write (H, W, 3) values of 16 bits, which Pillow can't."""
    height, width, _ = values.shape
    rows = values.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    ]  # fmt: skip
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def photos(folder: Path, count: int = 6) -> Path:
    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
            image.save(folder / name / f"{number}.png")
    return folder


def wide_image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (30, 90, 3), dtype=np.uint8))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("turned", [False, True])
def test_images_become_squares_by_cropping_padding_or_stretching(tmp_path: Path, fit, turned):
    image = wide_image()
    if turned:
        image = image.transpose(Image.Transpose.ROTATE_90)
    image.save(tmp_path / "wide.png")
    square = read_square(tmp_path / "wide.png", Reading(size=SIZE, fit=fit))
    side, bilinear = (SIZE, SIZE), Image.Resampling.BILINEAR
    expected = {
        "crop": ImageOps.fit(image, side, bilinear),
        "pad": ImageOps.pad(image, side, bilinear, color="black"),
        "stretch": image.resize(side, bilinear),
    }[fit]
    np.testing.assert_allclose(square.pixels.astype(int), np.asarray(expected).astype(int), atol=1)
    assert square.facts.cut_off == pytest.approx(2 / 3 if fit == "crop" else 0)
    larger = read_square(tmp_path / "wide.png", Reading(size=40, fit=fit))
    assert larger.facts.enlarged == (fit != "pad")


def test_what_cropping_cuts_off_is_told_and_pad_keeps_it(tmp_path: Path):
    for name, left in (("left", 30), ("right", 870)):
        (tmp_path / "wide" / name).mkdir(parents=True)
        for number in range(12):
            image = Image.new("RGB", (900, 300), (90 + number, 90, 90))
            image.paste((255, 0, 0), (left - 20, 130, left + 20, 170))
            image.save(tmp_path / "wide" / name / f"{number}.png")
    cropped = prepare(str(tmp_path / "wide"), tmp_path / "cropped", size=48)
    assert cropped.notes == (
        "cropping to the centre square cut off 67% of the area in the median, 67% at most; --fit"
        " pad and --fit stretch cut off nothing",
        "images that are copies of others (copies share a split): 12",
        "images that are in more than one class: 12",
    )
    padded = prepare(str(tmp_path / "wide"), tmp_path / "padded", size=48, fit="pad")
    assert (padded.fit, cropped.fit) == ("pad", "crop")
    reds = padded.pixels.take(range(24))[..., 1].astype(int)  # red has no green
    middle = slice(16, 32)
    left_is_red = reds[:, middle, :4].min(axis=(1, 2)) < 60
    np.testing.assert_array_equal(left_is_red, padded.labels == 0)


@pytest.mark.parametrize(("bits", "top"), [(10, 1000), (12, 4000), (14, 16000), (16, 60000)])
def test_grey_of_more_than_8_bits_gets_its_own_range(tmp_path: Path, bits: int, top: int):
    values = np.tile(np.linspace(0, top, SIZE), (SIZE, 1)).astype(np.uint16)
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(values).save(tmp_path / name)
        square = read_square(tmp_path / name, Reading(size=SIZE))
        expected = np.rint(values * (255 / (2**bits - 1)))
        np.testing.assert_array_equal(square.pixels[..., 0], expected)
        assert square.facts.bits == bits
        declared = read_square(tmp_path / name, Reading(size=SIZE, bits=16))
        np.testing.assert_array_equal(declared.pixels[..., 0], np.rint(values / 257))
    with pytest.raises(BadImageError, match=f"values from 0 to {top}; white is 511 for 9 bits"):
        read_square(tmp_path / "deep.png", Reading(size=SIZE, bits=9))


def test_colours_of_16_bits_get_their_own_range_too(tmp_path: Path):
    ramp = np.linspace(0, 4095, SIZE).astype(np.uint16)
    values = np.stack([np.tile(ramp, (SIZE, 1)), np.tile(ramp[:, None], (1, SIZE))] * 2, axis=2)
    write_png16(tmp_path / "deep.png", values[..., :3])
    square = read_square(tmp_path / "deep.png", Reading(size=SIZE))
    assert square.facts.bits == 12
    # Pillow keeps the upper 8 bits of 16, so 4 of 12.
    np.testing.assert_allclose(square.pixels, values[..., :3] / 4095 * 255, atol=17)
    assert square.pixels.max() == 255
    write_png16(tmp_path / "full.png", 16 * values[..., :3])
    square = read_square(tmp_path / "full.png", Reading(size=SIZE))
    np.testing.assert_allclose(square.pixels, values[..., :3] / 4095 * 255, atol=1)


def test_deep_images_are_told_in_one_line(tmp_path: Path):
    source = photos(tmp_path / "source")
    (source / "c").mkdir()
    rng = np.random.default_rng(1)
    for number in range(6):
        values = rng.integers(0, 4095, (20, 20)).astype(np.uint16)
        Image.fromarray(values).save(source / "c" / f"{number}.png")
    data = prepare(str(source), tmp_path / "out", size=SIZE)
    assert data.notes == (
        "images of more than 8 bits, each scaled by its own range; --bits sets one: 6 of 12 bits",
    )
    assert data.pixels.take(np.flatnonzero(data.labels == 2)).max() > 200
    declared = prepare(str(source), tmp_path / "declared", size=SIZE, bits=14)
    assert declared.notes == (
        "images of more than 8 bits, each scaled as --bits says: 6 of 14 bits",
    )
    assert declared.bits == 14


WITHOUT_PILLOW_HEIF = """
import sys
from pathlib import Path
sys.modules["pillow_heif"] = None  # as if it were not installed
from trainables.prepare import prepare
prepare(sys.argv[1], Path(sys.argv[2]), size=16, skip_bad=len(sys.argv) > 3)
"""


def test_heic_needs_an_extra_and_is_counted_by_class_without_it(tmp_path: Path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    source = photos(tmp_path / "source")
    for name, count in (("a", 1), ("b", 2)):
        for number in range(count):
            wide_image().rotate(90 * number).save(source / name / f"IMG_{number}.HEIC")
    data = prepare(str(source), tmp_path / "with", size=SIZE)
    assert len(data) == 15
    assert "a/IMG_0.HEIC" in read_sources(data.path)
    line = "3 .heic files (a 1, b 2): pip install 'flopwise[heic]' reads it"
    for options, code in (((), 1), (("skip",), 0)):
        arguments = [source, tmp_path / "without", *options]
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_PILLOW_HEIF, *map(str, arguments)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert (line in done.stderr) == bool(code)
    about = (tmp_path / "without" / "data.json").read_text()
    assert f"skipped {line}" in about


def test_raw_photographs_are_not_read_as_their_previews(tmp_path: Path):
    Image.new("RGB", (20, 20)).save(tmp_path / "raw.tiff")
    (tmp_path / "raw.tiff").rename(tmp_path / "raw.nef")
    with pytest.raises(NeedsMoreError, match=r"^convert it to JPEG, TIFF or PNG$"):
        read_square(tmp_path / "raw.nef", Reading(size=SIZE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 7}, "size 7: images are stored at 8 to 2048 px"),
        ({"size": 8, "bits": 17}, "bits 17: white has 8 to 16 bits"),
    ],
)
def test_readings_that_can_not_be_are_refused(options: dict, message: str):
    with pytest.raises(UserError, match=message):
        Reading(**options)


def test_the_digest_of_a_file_is_that_of_its_content(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    assert content_digest(tmp_path / "x") == content_digest(b"abc")
    assert content_digest(tmp_path / "missing") is None
