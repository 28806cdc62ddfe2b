"""Predictions of an exported model for image files, and its accuracy on labelled images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaces.errors import UserError
from spaces.intervals import Interval, wilson_interval
from spaces.metrics import TOP, TOP_ACCURACY, class_metrics
from trainables.data.dataset import ABOUT, open_data
from trainables.data.image_files import BadImageError, pixel_limit, read_square
from trainables.data.image_sources import folder_source
from trainables.data.image_table import UInt8Array
from trainables.data.image_walk import images_in
from trainables.data.splits import SplitName
from trainables.inference.onnx_model import ExportedModel, in_batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A model's prediction for one image file."""

    path: Path
    classes: tuple[str, ...]
    """The most probable first."""
    probabilities: tuple[float, ...]
    problem: str | None = None
    """Why there is no prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A model's results on labelled images."""

    images: int
    correct: int
    metrics: dict[str, float]
    """accuracy and the others of `spaces.metrics`, by column."""
    by_class: dict[str, tuple[int, int]]
    """Class -> (images, correct predictions). Classes without images are left out."""
    skipped: tuple[str, ...] = ()
    """Files that could not be read, a line each."""

    @property
    def accuracy(self) -> float:
        return self.correct / self.images

    @property
    def interval(self) -> Interval:
        """The accuracy with its 95 % interval over other images of the same kind."""
        return wilson_interval(self.accuracy, self.images)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The named files, and every image in the named folders, at any depth, in order.

    Raises UserError if a path does not exist, or if a folder has no images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
        inside = list(images_in(path)) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: there are no images in it")
        found += inside
    return found


def predict(model: ExportedModel, paths: Sequence[Path], top: int) -> Iterator[Prediction]:
    """Yield the `top` most probable classes of each image file, in order."""
    top = min(top, len(model.about.classes))
    with pixel_limit():
        for path in paths:
            try:
                pixels = model.fit(read_square(path, model.about.reading).pixels)
            except BadImageError as error:
                yield Prediction(path=path, classes=(), probabilities=(), problem=str(error))
                continue
            probabilities_K = model.probabilities(pixels[None])[0]
            best = np.argsort(-probabilities_K, kind="stable")[:top]
            yield Prediction(
                path=path,
                classes=tuple(model.about.classes[k] for k in best),
                probabilities=tuple(float(probabilities_K[k]) for k in best),
            )


def evaluate(
    model: ExportedModel,
    data: Path,
    split: SplitName = "validation",
    *,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> Evaluation:
    """Count correct predictions on a split of prepared data, or on a folder of class folders.

    Raises UserError if the data has classes that the model does not know, or has no image.
    """
    if (data / ABOUT).exists():
        return _evaluate_prepared(model, data, split, progress)
    return _evaluate_folder(model, data, progress)


def _evaluate_prepared(
    model: ExportedModel,
    path: Path,
    split: SplitName,
    progress: Callable[[int, int | None], None],
) -> Evaluation:
    data = open_data(path)
    outputs = _outputs_of(model, data.classes, path)
    rows = data.rows(split)
    table = data.at_size(model.about.input_size)
    tally = _Tally(model)
    for batch in in_batches(rows):
        tally.add(table.take(batch), outputs[data.labels[batch]])
        progress(tally.images, len(rows))
    return tally.result(path)


def _evaluate_folder(
    model: ExportedModel, path: Path, progress: Callable[[int, int | None], None]
) -> Evaluation:
    source = folder_source(path)
    assert source.classes is not None
    outputs = _outputs_of(model, source.classes, path)
    tally, skipped = _Tally(model), []
    with pixel_limit():
        for done, sample in enumerate(source.samples(), start=1):
            try:
                pixels = model.fit(sample.read(model.about.reading).pixels)
            except BadImageError as error:
                skipped.append(f"{sample.location}: {error}")
                continue
            tally.add(pixels[None], outputs[[sample.label]])
            progress(done, source.total)
    return tally.result(path, tuple(skipped))


class _Tally:
    """Collects predictions, and counts them by class."""

    def __init__(self, model: ExportedModel) -> None:
        self._model = model
        self._labels: list[np.ndarray] = []
        self._best: list[np.ndarray] = []
        self.images = 0

    def add(self, pixels_NHWC: UInt8Array, outputs_N: np.ndarray) -> None:
        logits_NK = self._model.logits(pixels_NHWC)
        self._best.append(np.argsort(-logits_NK, axis=1, kind="stable")[:, :TOP])
        self._labels.append(outputs_N)
        self.images += len(outputs_N)

    def result(self, path: Path, skipped: tuple[str, ...] = ()) -> Evaluation:
        if not self.images:
            raise UserError(f"{path}: no image can be read; {'; '.join(skipped[:1])}")
        classes = self._model.about.classes
        labels, best = np.concatenate(self._labels), np.concatenate(self._best)
        predicted = best[:, 0]
        every = np.bincount(labels, minlength=len(classes))
        right = np.bincount(labels[labels == predicted], minlength=len(classes))
        return Evaluation(
            images=self.images,
            correct=int(right.sum()),
            metrics={
                **class_metrics(labels, predicted, num_classes=len(classes)),
                TOP_ACCURACY: float((best == labels[:, None]).any(axis=1).mean()),
            },
            by_class={
                name: (int(count), int(correct))
                for name, count, correct in zip(classes, every, right, strict=True)
                if count
            },
            skipped=skipped,
        )


def _outputs_of(model: ExportedModel, classes: Sequence[str], path: Path) -> np.ndarray:
    """The index of the model's output for each class of the data."""
    known = {name: output for output, name in enumerate(model.about.classes)}
    unknown = [name for name in classes if name not in known]
    if unknown:
        some = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        raise UserError(
            f"{path}: {model.path} was trained on {len(known)} classes and does not know"
            f" {len(unknown)} of these {len(classes)}: {some}"
        )
    return np.asarray([known[name] for name in classes])
