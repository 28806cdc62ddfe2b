"""Draws the images of `make_demo` with all cores: 6,270 of 224 px take 9 s on 16 cores.

    python benchmarks/comparison/drawing.py OUT [--classes 151] [--size 224] [--times 1]

Rented machines are paid by the minute. This is a program of its own because each of its processes
imports what it imports, and torch alone takes longer than the drawing.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from trainables.data.demo_images import (
    class_counts,
    class_looks,
    draw_image,
    images_of,
    write_demo,
)
from trainables.data.image_table import UInt8Array

_SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw generated images with all cores.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", type=int, default=151)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--times", type=int, default=1, help="As many images.")
    options = parser.parse_args()
    counts = options.times * class_counts(options.classes, _SEED)
    tasks = [(options.classes, options.size, *image) for image in images_of(counts)]
    write_demo(options.out, counts, _draw_all(tasks), size=options.size, seed=_SEED)


def _draw_all(tasks: list[tuple[int, int, int, int]]) -> Iterator[UInt8Array]:
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        yield from processes.map(_draw, tasks, chunksize=32)


def _draw(task: tuple[int, int, int, int]) -> UInt8Array:
    classes, size, label, number = task
    look = class_looks(classes, _SEED)[label]
    return draw_image(look, size, np.random.default_rng([_SEED, label, number]))


if __name__ == "__main__":
    main()
