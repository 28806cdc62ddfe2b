"""Reads an image file of any kind as a square of upright RGB pixels.

An image is turned upright by its EXIF orientation and becomes RGB. Transparent pixels are laid on
white. 16-bit grey is scaled to 8 bits. The first frame of an animation is taken. Then the centre
square is cut out and resized, so that the shortest side becomes `size`.
"""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from spaces.errors import UserError
from spaces.files import check_file, reason
from trainables.data.image_table import UInt8Array

# Pillow takes much memory and time for each row, however short. No camera comes near.
_LONGEST_SIDE = 250_000
# Some of its decoders read the whole file. As many pixels as Pillow takes, with 16 bits, fit.
_MOST_BYTES = 600 * 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One image as it is stored."""

    pixels: UInt8Array
    """(size, size, 3)"""
    enlarged: bool
    """Whether the shortest side had fewer than `size` pixels."""


class BadImageError(ValueError):
    """An image can't be used. The message gives the reason, without the path."""


def image_suffixes() -> frozenset[str]:
    """Suffixes of the files that Pillow reads, in lower case and with the dot."""
    suffixes = Image.registered_extensions()  # also fills Image.OPEN
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN)


@contextmanager
def bombs_are_errors() -> Generator[None]:
    """Let Pillow raise an error for suspiciously large images, and hide its other warnings.

    Warning filters hold for the whole process. Enter this in one thread, around the decoding ones.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_square(path: Path, size: int) -> Square:
    """Read an image file. Raises BadImageError with the reason."""
    try:
        if path.exists():  # Pillow says what is missing
            check_file(path, what="image", most_bytes=_MOST_BYTES)
    except UserError as error:
        raise BadImageError(str(error).removeprefix(f"{path}: ")) from None
    except OSError:  # such as a name that is too long
        pass
    try:
        with Image.open(path) as image:
            shortest = min(image.size)
            # libjpeg can shrink large JPEGs by 2, 4 or 8 while it decodes. Ask for twice the size,
            # so that we do the last, antialiased step.
            image.draft(None, (2 * size, 2 * size))
            pixels = square_pixels(image, size)
    except BadImageError:
        raise
    except Exception as error:  # damaged files make Pillow's decoders raise almost anything
        raise BadImageError(_reason(error)) from None
    return Square(pixels=pixels, enlarged=shortest < size)


def square_pixels(image: Image.Image, size: int) -> UInt8Array:
    """Turn an image into (size, size, 3) upright RGB pixels; see the top of this module.

    Raises BadImageError if it is unknown which pixel value is white, or if a side is too long.
    """
    if max(image.size) > _LONGEST_SIDE:
        raise BadImageError(
            f"{image.width:,} x {image.height:,} px; sides above {_LONGEST_SIDE:,} px are not read"
        )
    rgb = _to_rgb(ImageOps.exif_transpose(image))
    shortest = min(rgb.size)
    left, top = (rgb.width - shortest) / 2, (rgb.height - shortest) / 2
    box = (left, top, left + shortest, top + shortest)
    return np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR, box=box))


def resize_square(pixels: UInt8Array, size: int) -> UInt8Array:
    """Resize (H, H, 3) pixels to (size, size, 3): bilinear, antialiased."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return _scale_grey(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _scale_grey(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (Pillow's I;16 and, from some files, I) and 0..1 floats to 8 bits."""
    values = np.asarray(image)
    white = 1.0 if image.mode == "F" else 65535
    if not (values.min() >= 0 and values.max() <= white):  # NaN fails this too
        raise BadImageError(
            f"grey values from {values.min():g} to {values.max():g};"
            " only 8 bits, 16 bits and floats from 0 to 1 have a known white"
        )
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def _reason(error: Exception) -> str:
    text = reason(error)
    # Pillow's message repeats the path, which the caller adds.
    return "not an image that Pillow knows" if "cannot identify image file" in text else text
