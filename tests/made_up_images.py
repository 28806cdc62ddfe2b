"""Drawn images for tests."""

import numpy as np
from PIL import Image


def detailed(seed: int, side: int = 160) -> Image.Image:
    """Something like a photograph: coarse and fine structure, the coarse one stronger."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side, 3))
    for cells in (3, 6, 12, 24):
        layer = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        image += np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC)) / cells
    return Image.fromarray((255 * image / image.max()).astype(np.uint8))
