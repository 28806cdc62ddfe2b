"""Reads the images that reports and `flopwise data show` draw."""

import numpy as np

from analysis.results.class_accuracy import SplitPredictions
from analysis.results.image_samples import (
    ClassSamples,
    Mistake,
    Pixels,
    Samples,
    rows_to_show,
    surest_mistakes,
)
from trainables.data.dataset import ImageData, read_sources
from trainables.data.image_files import resize_square

_SAMPLE_SIDE, _MISTAKE_SIDE = 128, 192


def class_samples(data: ImageData) -> Samples:
    """Some images of each class; see `analysis.results.image_samples.rows_to_show`."""
    shown = rows_to_show(data.labels, len(data.classes))
    counts = np.bincount(data.labels, minlength=len(data.classes))
    return Samples(
        classes=tuple(
            ClassSamples(
                name=data.classes[index],
                num_images=int(counts[index]),
                images=_thumbnails(data, rows, _SAMPLE_SIDE),
            )
            for index, rows in shown
        ),
        num_left_out=int((counts > 0).sum()) - len(shown),
    )


def mistakes_of(data: ImageData, predictions: SplitPredictions) -> tuple[Mistake, ...]:
    """The validation images that a model is most sure and wrong about, the surest first."""
    assert predictions.confidence is not None
    rows, sources = data.rows("validation"), read_sources(data.path)
    found = surest_mistakes(predictions)
    return tuple(
        Mistake(
            image=image,
            label=data.classes[predictions.labels[at]],
            predicted=data.classes[predictions.predicted[at]],
            confidence=float(predictions.confidence[at]),
            source=sources[rows[at]],
        )
        for at, image in zip(found, _thumbnails(data, rows[found], _MISTAKE_SIDE), strict=True)
    )


def _thumbnails(data: ImageData, rows: np.ndarray, side: int) -> Pixels:
    """(rows, side, side, 3): the stored images, made smaller if they are larger."""
    images = data.pixels.take(rows)
    if data.size <= side:
        return images
    small = np.empty((len(images), side, side, 3), dtype=np.uint8)
    for place, image in zip(small, images, strict=True):
        place[:] = resize_square(image, size=side)
    return small
