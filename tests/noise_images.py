"""Data of which nothing can be learned, for tests of what guessing gets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.data.dataset import ImageData, open_data
from trainables.data.writing import DataWriter, new_folder


def noise_images(
    folder: Path, counts: Sequence[int], names: Sequence[str] | None = None
) -> ImageData:
    """Noise of 48 px, so many images a class: there is nothing to learn."""
    rng = np.random.default_rng(0)
    classes = list(names or [f"class {label}" for label in range(len(counts))])
    with new_folder(folder) as partial, DataWriter(partial, 48) as writer:
        for label, count in enumerate(counts):
            for number in range(count):
                image = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
                writer.append(image, label, f"{label}/{number}")
        writer.finish(
            **{"name": "noise", "classes": classes},
            **{"synthetic": True, "notes": []},
            **{"validation": 0.25, "test": 0.25, "seed": 0},
        )
    return open_data(folder)
