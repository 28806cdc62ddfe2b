"""Generates images instead of photographs, for demonstrations and tests, and labels them so.

Each image shows one textured shape before clutter. Its class is a combination of shape, hue, coarse
pattern and fine pattern. Classes come in threes that differ only in the fine pattern, which small
images lose: 18 to 24 cycles across the image need an input of more than 36 to 48 px. A quarter of
the classes has 40 cycles and needs more than 80. Position, scale, rotation, light, contrast,
background and noise vary within a class. A mirrored image keeps its class.
"""

import colorsys
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spaces.errors import UserError
from trainables.data.dataset import ImageData, open_data
from trainables.data.image_table import UInt8Array
from trainables.data.writing import DataWriter, new_folder

FloatArray = npt.NDArray[np.floating]

SHAPES = ("disc", "square", "triangle", "ring", "cross", "bar")
NUM_HUES = 8
COARSE = ("rows", "columns", "rings", "spots")
FINE = ("rows", "columns", "lattice")
FINE_CYCLES = (18, 24, 21, 40)
MOST_CLASSES = len(SHAPES) * NUM_HUES * len(COARSE) * len(FINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLook:
    """What all images of one class share."""

    shape: str
    hue: float
    """0 to 1 around the colour circle."""
    coarse: str
    fine: str
    fine_cycles: int
    """Periods of the fine pattern across the image."""


def make_demo(
    out: Path,
    *,
    classes: int = 151,
    seed: int = 0,
    size: int = 128,
    times: int = 1,
    progress: Callable[[int, int | None], None] | None = None,
) -> ImageData:
    """Make prepared data of synthetic images at `out`, with the shape of the 151 animal species.

    26 to 60 images a class; 6,270 in all for 151 classes. size: of the images, in pixels. times:
    multiplies the number of images.
    progress: called with the numbers of images done and of all images.
    Raises UserError if `out` exists, or if this number of classes can't be made.
    """
    if not 2 <= classes <= MOST_CLASSES:
        raise UserError(f"classes {classes}: 2 to {MOST_CLASSES} can be generated")
    if not 8 <= size <= 2048:
        raise UserError(f"size {size}: images are stored at 8 to 2048 px")
    counts = times * class_counts(classes, seed)
    looks = class_looks(classes, seed)

    def draw_all() -> Iterator[UInt8Array]:
        for done, (label, number) in enumerate(images_of(counts), start=1):
            # A seed for each image, so the first classes do not depend on how many there are.
            yield draw_image(looks[label], size, np.random.default_rng([seed, label, number]))
            if progress:
                progress(done, int(counts.sum()))

    return write_demo(out, counts, draw_all(), size=size, seed=seed)


def images_of(counts: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The label of each image and its number in the class. counts: (classes,)."""
    return [(label, number) for label, count in enumerate(counts) for number in range(count)]


def write_demo(
    out: Path,
    counts: npt.NDArray[np.int64],
    images: Iterable[UInt8Array],
    *,
    size: int,
    seed: int,
) -> ImageData:
    """Write drawn images as prepared data. images: in the order of `images_of(counts)`."""
    names = [f"synthetic-{number:03d}" for number in range(1, len(counts) + 1)]
    with new_folder(out) as folder, DataWriter(folder, size) as writer:
        for (label, number), image in zip(images_of(counts), images, strict=True):
            writer.append(image, label, f"{names[label]}/{number:02d}")
        writer.finish(
            name="synthetic",
            classes=names,
            synthetic=True,
            notes=["generated images, not photographs: for trying flopwise out"],
            validation=0.15,
            test=0.15,
            seed=seed,
        )
    return open_data(out)


def class_counts(classes: int, seed: int) -> npt.NDArray[np.int64]:
    """Images of each class, (classes,), shuffled.

    Quantiles of the seed case: 26 to 60, mean 41.5, standard deviation 10.1, median 36.
    """
    quantiles = np.linspace(0, 1, classes)
    counts = np.interp(quantiles, [0, 0.15, 0.5, 0.75, 1], [26, 33, 36, 52, 60])
    return np.random.default_rng([seed, 1]).permutation(np.rint(counts).astype(np.int64))


def class_looks(classes: int, seed: int) -> list[ClassLook]:
    """Looks of the classes. Each group of three differs only in the fine pattern."""
    triples = list(itertools.product(SHAPES, range(NUM_HUES), COARSE))
    order = np.random.default_rng([seed, 0]).permutation(len(triples))
    return [
        ClassLook(
            shape=triples[row][0],
            hue=triples[row][1] / NUM_HUES,
            coarse=triples[row][2],
            fine=fine,
            fine_cycles=FINE_CYCLES[number % len(FINE_CYCLES)],
        )
        for number, row in enumerate(order)
        for fine in FINE
    ][:classes]


def draw_image(look: ClassLook, size: int, rng: np.random.Generator) -> UInt8Array:
    """Draw one (size, size, 3) image of a class."""
    steps = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    centre = rng.uniform(-0.14, 0.14, 2)
    turn = np.deg2rad(rng.uniform(-9, 9))
    x, y = steps[None, :] - centre[0], steps[:, None] - centre[1]
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    x, y = x.astype(np.float32), y.astype(np.float32)

    radius = rng.uniform(0.26, 0.44)
    inside = np.clip(0.5 - _distance(look.shape, x / radius, y / radius) * radius * size, 0, 1)
    coarse = _pattern(look.coarse, x, y, rng.uniform(4.5, 6.5), rng.uniform(0, 1, 2))
    fine_cycles = look.fine_cycles * rng.uniform(0.94, 1.06)
    fine = _pattern(look.fine, x, y, fine_cycles, rng.uniform(0, 1, 2))
    # A pattern finer than the pixels would alias into another one.
    visible = fine_cycles < 0.48 * size
    light = 0.55 + rng.uniform(0.06, 0.16) * coarse + visible * rng.uniform(0.1, 0.24) * fine
    colour = _colour(look.hue + rng.normal(0, 0.02), rng.uniform(0.25, 0.6), 1.0)
    figure = light[..., None] * colour

    image = figure * inside[..., None] + _clutter(steps, rng) * (1 - inside[..., None])
    image *= _lighting(steps, rng)[..., None]
    image = (image - 0.5) * rng.uniform(0.6, 1.15) + 0.5 + rng.uniform(-0.1, 0.1)
    image += rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(0.02, 0.08)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _distance(shape: str, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return about the distance to the outline of a shape of radius 1: below 0 inside."""
    if shape == "disc":
        return np.hypot(x, y) - 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.85
    if shape == "triangle":
        return np.maximum(0.87 * abs(x) + 0.5 * -y, y) - 0.6
    if shape == "ring":
        return abs(np.hypot(x, y) - 0.72) - 0.3
    if shape == "cross":
        near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
        return np.maximum(near - 0.36, far - 1)
    assert shape == "bar", shape
    return np.maximum(abs(x) - 1.05, abs(y) - 0.5)


def _pattern(
    kind: str, x: FloatArray, y: FloatArray, cycles: float, stage: npt.NDArray[np.float64]
) -> FloatArray:
    """Return a wave from -1 to 1 with this many periods across the image."""
    first, second = (2 * np.pi * stage).tolist()
    x, y = x * (2 * np.pi * cycles), y * (2 * np.pi * cycles)
    if kind == "rows":
        return np.sin(y + first)
    if kind == "columns":
        return np.sin(x + first)
    if kind == "rings":
        return np.sin(np.hypot(x, y) + first)
    if kind == "spots":
        return np.sin(x + first) * np.sin(y + second)
    assert kind == "lattice", kind
    return 0.7 * (np.sin(0.5**0.5 * (x + y) + first) + np.sin(0.5**0.5 * (x - y) + second))


def _colour(hue: float, saturation: float, value: float) -> FloatArray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), dtype=np.float32)


def _clutter(steps: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Soft patches of any colour with stripes of any direction over them, (size, size, 3)."""
    knots = 6
    at = (steps + 0.5) * (knots - 1)
    weights = np.clip(1 - abs(at[:, None] - np.arange(knots)), 0, 1).astype(np.float32)
    patches = rng.uniform(0.1, 0.9, (3, knots, knots)).astype(np.float32)
    angle, cycles = rng.uniform(0, np.pi), rng.uniform(3, 24)
    along = np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]
    stripes = np.sin(2 * np.pi * cycles * along.astype(np.float32)) * rng.uniform(0.03, 0.15)
    return (weights @ patches @ weights.T).transpose(1, 2, 0) + stripes[..., None]


def _lighting(steps: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Light that falls off in one direction, (size, size)."""
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7)
    across = np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]
    return (1 + fall * across).astype(np.float32)
