"""Reads an image file of any kind as a square of upright RGB pixels.

An image is turned upright by its EXIF orientation and becomes RGB. Transparent pixels are laid on
white. More than 8 bits are scaled to 8. The first frame of an animation is taken. Then it becomes a
square of `Reading.size` pixels, as `Reading.fit` says.
"""

import hashlib
import importlib
import io
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from spaces.errors import UserError
from spaces.files import check_file, reason
from trainables.data.image_table import UInt8Array

Fit = Literal["crop", "pad", "stretch"]
# Formats that Pillow opens but that hold no photograph: videos, documents, drawings, measurements.
# Some of them run other programs.
_NO_PHOTOGRAPHS = frozenset(
    ("BUFR", "EPS", "FLI", "GBR", "GRIB", "HDF5", "MPEG", "PDF", "WMF", "XVTHUMB")
)
# Photographs that need more than Pillow, by suffix, and the way out.
_HEIF = "pip install 'flopwise[heic]' reads it"
_RAW = "convert it to JPEG, TIFF or PNG"
NEEDS_MORE = {
    **dict.fromkeys((".heic", ".heif", ".hif", ".avif"), _HEIF),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"), _RAW),
    ".jxl": _RAW,
}
# Pillow takes much memory and time for each row, however short. No camera comes near.
_LONGEST_SIDE = 250_000
# Some of its decoders read the whole file. As many pixels as Pillow takes, with 16 bits, fit.
_MOST_BYTES = 600 * 10**6
_CHUNK_BYTES = 2**20
# Sensors and scanners write so many bits.
_KNOWN_BITS = (8, 10, 12, 14, 16)
_PIXELS = re.compile(r"\((\d+) pixels\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an image becomes a square. Validates itself; raises UserError."""

    size: int
    """Height and width of the square, in pixels."""
    fit: Fit = "crop"
    """The largest centre square; or the whole image, with black beside it or stretched."""
    bits: int | None = None
    """Of images with more than 8 bits a channel: how many bits white has. None: the fewest of
    8, 10, 12, 14 and 16 that hold an image's values."""

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 2048:
            raise UserError(f"size {self.size}: images are stored at 8 to 2048 px")
        if self.bits is not None and not 8 <= self.bits <= 16:
            raise UserError(f"bits {self.bits}: white has 8 to 16 bits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of an image besides its pixels."""

    enlarged: bool = False
    """Whether the image had too few pixels for the square."""
    cut_off: float = 0.0
    """The share of its area that the square does not show."""
    bits: int = 8
    """Of its white."""
    file: bytes | None = None
    """The digest of its file; None if there is none."""
    hash: bytes | None = None
    """See `near_duplicates`; None if it was not computed, or if there is nothing to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One image as it is stored."""

    pixels: UInt8Array
    """(size, size, 3)"""
    image: Image.Image
    """The same."""
    facts: Facts


class BadImageError(ValueError):
    """An image can't be used. The message gives the reason, without the path."""


class TooManyPixelsError(BadImageError):
    """An image has more pixels than the limit."""

    def __init__(self, pixels: int) -> None:
        self.megapixels = -(-pixels // 10**6)
        limit = (Image.MAX_IMAGE_PIXELS or 0) / 10**6
        super().__init__(f"{self.megapixels} megapixels; at most {limit:.0f} are read")


class NeedsMoreError(BadImageError):
    """An image is of a known kind that can't be read here. The message is the way out."""


@cache
def photo_formats() -> tuple[str, ...]:
    """Pillow's names of the formats of photographs that can be read here."""
    with suppress(ImportError):  # an extra
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(kind for kind in Image.OPEN if kind not in _NO_PHOTOGRAPHS)


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of photographs, in lower case and with the dot: all that are known.

    Those of NEEDS_MORE are among them, whether they can be read here or not.
    """
    kinds = photo_formats()  # fills the table of suffixes
    read = {suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds}
    return frozenset(read | NEEDS_MORE.keys())


@contextmanager
def pixel_limit(megapixels: float | None = None) -> Generator[None]:
    """Let Pillow raise an error for images above a limit, and hide its other warnings.

    megapixels: None is Pillow's own limit, some 89. It and warning filters hold for the whole
    process. Enter this in one thread, around the decoding ones.
    """
    before = Image.MAX_IMAGE_PIXELS
    if megapixels is not None:
        Image.MAX_IMAGE_PIXELS = int(megapixels * 10**6)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def read_square(source: Path | bytes, reading: Reading) -> Square:
    """Read an image file, or its content. Raises BadImageError with the reason."""
    suffix = source.suffix.lower() if isinstance(source, Path) else ""
    if isinstance(source, Path):
        _check_regular(source)
    if NEEDS_MORE.get(suffix) is _RAW:  # Pillow would take the preview in it
        raise NeedsMoreError(_RAW)
    try:
        with Image.open(
            source if isinstance(source, Path) else io.BytesIO(source), formats=photo_formats()
        ) as image:
            size, deep = image.size, _is_deep(image)
            # libjpeg can shrink large JPEGs by 2, 4 or 8 while it decodes. Ask for twice the size,
            # so that we do the last, antialiased step.
            image.draft(None, (2 * reading.size, 2 * reading.size))
            return to_square(image, reading, size=size, deep=deep)
    except BadImageError:
        raise
    except Exception as error:  # damaged files make Pillow's decoders raise almost anything
        raise _bad_image(error, suffix) from None


def to_square(
    image: Image.Image,
    reading: Reading,
    *,
    size: tuple[int, int] | None = None,
    deep: bool = False,
) -> Square:
    """Turn an image into upright RGB pixels; see the top of this module.

    size: width and height of the image in its file; None: as it is. deep: its channels had 16 bits
    in the file, of which Pillow keeps the upper 8. Raises BadImageError if it is unknown which
    value is white, or if a side is too long.
    """
    width, height = size or image.size
    if max(width, height) > _LONGEST_SIDE:
        raise BadImageError(
            f"{width:,} x {height:,} px; sides above {_LONGEST_SIDE:,} px are not read"
        )
    image = ImageOps.exif_transpose(image)
    bits = 8
    if image.mode == "F" or image.mode.startswith("I"):
        image, bits = _scale_grey(image, reading.bits)
    elif deep:
        image, bits = _scale_colours(image, reading.bits)
    rgb, side = _on_white(image), (reading.size, reading.size)
    shortest, longest = sorted(rgb.size)
    cut_off = 0.0
    if reading.fit == "pad":
        square = ImageOps.pad(rgb, side, Image.Resampling.BILINEAR)
    elif reading.fit == "stretch":
        square = rgb.resize(side, Image.Resampling.BILINEAR)
    else:
        cut_off = 1 - shortest / longest
        left, top = (rgb.width - shortest) / 2, (rgb.height - shortest) / 2
        box = (left, top, left + shortest, top + shortest)
        square = rgb.resize(side, Image.Resampling.BILINEAR, box=box)
    needed = max(width, height) if reading.fit == "pad" else min(width, height)
    facts = Facts(enlarged=needed < reading.size, cut_off=cut_off, bits=bits)
    return Square(pixels=np.asarray(square), image=square, facts=facts)


def content_digest(source: Path | bytes) -> bytes | None:
    """16 bytes that identify the content of a file; None if it can't be read."""
    found = hashlib.blake2b(digest_size=16)
    if isinstance(source, bytes):
        found.update(source)
        return found.digest()
    try:
        check_file(source, most_bytes=_MOST_BYTES)
        with source.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK_BYTES):
                found.update(chunk)
    except (UserError, OSError):
        return None
    return found.digest()


def resize_square(pixels: UInt8Array, size: int) -> UInt8Array:
    """Resize (H, H, 3) pixels to (size, size, 3): bilinear, antialiased."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def _check_regular(path: Path) -> None:
    """Refuse what would make Pillow wait, or take all memory."""
    try:
        if path.exists():  # Pillow says what is missing
            check_file(path, what="image", most_bytes=_MOST_BYTES)
    except UserError as error:
        raise BadImageError(str(error).removeprefix(f"{path}: ")) from None
    except (OSError, ValueError):  # such as a name that is too long; Pillow says so too
        pass


def _is_deep(image: Image.Image) -> bool:
    """Whether the channels of an image that is open, but not decoded, have 16 bits in its file."""
    tiles: list[Any] = getattr(image, "tile", None) or []
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile) for tile in tiles)


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _scale_grey(image: Image.Image, bits: int | None) -> tuple[Image.Image, int]:
    """Scale grey (Pillow's I;16 and, from some files, I) and floats from 0 to 1 to 8 bits.

    Also returns the bits of white; 8 for floats.
    """
    values = np.asarray(image)
    highest = float(values.max())
    if image.mode == "F":
        bits, white = 8, 1.0
    else:
        bits = bits or next((known for known in _KNOWN_BITS if highest < 2**known), 16)
        white = 2.0**bits - 1
    if not (values.min() >= 0 and highest <= white):  # NaN fails this too
        raise BadImageError(
            f"grey values from {values.min():g} to {highest:g}; white is"
            f" {white:g} for {'floats' if image.mode == 'F' else f'{bits} bits'}"
        )
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8)), bits


def _scale_colours(image: Image.Image, bits: int | None) -> tuple[Image.Image, int]:
    """Scale the upper 8 of 16 bits so that white is 255. Transparency stays as it is."""
    channels = dict(zip(image.getbands(), image.split(), strict=True))
    highest = max(int(np.asarray(one).max()) for name, one in channels.items() if name != "A")
    bits = bits or next(known for known in _KNOWN_BITS if highest < 2.0 ** (known - 8))
    white = max(1, 2 ** (bits - 8) - 1)
    table = [min(255, round(value * 255 / white)) for value in range(256)]
    scaled = [one if name == "A" else one.point(table) for name, one in channels.items()]
    return Image.merge(image.mode, scaled), bits


def _bad_image(error: Exception, suffix: str) -> BadImageError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        found = _PIXELS.search(str(error))
        if found:
            return TooManyPixelsError(int(found[1]))
    text = reason(error)
    # Pillow's message repeats the path, which the caller adds.
    if "cannot identify image file" in text:
        if suffix in NEEDS_MORE:
            return NeedsMoreError(NEEDS_MORE[suffix])
        return BadImageError("not an image that Pillow knows")
    return BadImageError(text)
