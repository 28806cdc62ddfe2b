"""torchvision's classification data sets as a source of images.

All labelled parts of a set are pooled. As for folders, the seed decides what is held out.
"""

import inspect
import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from PIL import Image
from torchvision import datasets

from spaces.errors import UserError
from spaces.yaml_files import did_you_mean
from trainables.data.image_files import BadImageError, Reading, Square, to_square
from trainables.data.image_sources import Sample, Source
from trainables.system.shared_cache import cache_folder

# The labelled parts of the sets that name their parts by `split`. If a set is not listed, its
# default part is used.
LABELLED_SPLITS = {
    "Country211": ("train", "valid", "test"),
    "DTD": ("train", "val", "test"),
    "FGVCAircraft": ("trainval", "test"),
    "Flowers102": ("train", "val", "test"),
    "Food101": ("train", "test"),
    "GTSRB": ("train", "test"),
    "Imagenette": ("train", "val"),
    "OxfordIIITPet": ("trainval", "test"),
    "PCAM": ("train", "val", "test"),
    "RenderedSST2": ("train", "val", "test"),
    "STL10": ("train", "test"),
    "SVHN": ("train", "test"),
    "StanfordCars": ("train", "test"),
}


_BAD_IMAGE = (
    OSError,
    SyntaxError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def torchvision_source(name: str) -> Source:
    """Open torchvision.datasets.NAME. If it is missing, downloads it into the cache folder.

    Raises UserError if there is no such set, it can't be downloaded, or it has no class labels.
    """
    known = [known for known in datasets.__all__ if inspect.isclass(getattr(datasets, known))]
    if name not in known:
        raise UserError(
            f"torchvision:{name}: torchvision has no such data set{did_you_mean(name, known)}"
        )
    parts = [_open(name, arguments) for arguments in _arguments_of_parts(name)]
    classes = _class_names(parts[0])

    def samples() -> Iterator[Sample]:
        for number, part in enumerate(parts):
            for row in range(len(part)):
                yield _sample(name, part, row, f"{name} part {number + 1}, image {row}")

    return Source(
        name=name,
        classes=classes,
        counts=None,
        total=sum(len(part) for part in parts),
        samples=samples,
    )


def _arguments_of_parts(name: str) -> list[dict[str, Any]]:
    """Keyword arguments for each labelled part of a set."""
    kind = getattr(datasets, name)
    own = inspect.signature(kind).parameters
    accepted = set(own)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
        accepted.update(*(inspect.signature(base).parameters for base in kind.__bases__))
    required = [
        word
        for word, parameter in own.items()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and word != "root"
    ]
    if required:
        raise UserError(
            f"torchvision:{name}: needs {', '.join(required)}; only sets that need just their name"
            " can be prepared, so save it as a folder of class folders"
        )
    common: dict[str, Any] = {}
    if "root" in accepted:
        common["root"] = str(cache_folder() / "torchvision")
    if "download" in accepted:
        common["download"] = True
    if "train" in accepted:
        return [{**common, "train": train} for train in (True, False)]
    if name in LABELLED_SPLITS:
        return [{**common, "split": split} for split in LABELLED_SPLITS[name]]
    return [common]


def _open(name: str, arguments: dict[str, Any]) -> Any:
    try:
        return getattr(datasets, name)(**arguments)
    except (OSError, RuntimeError, ValueError, TypeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"torchvision:{name}: could not be opened or downloaded: {reason}; if you download it"
            f" by hand, put it into {cache_folder() / 'torchvision'}"
        ) from None


def _class_names(part: Any) -> tuple[str, ...] | None:
    names = getattr(part, "classes", None) or getattr(part, "categories", None)
    return tuple(str(name) for name in names) if names else None


def _sample(name: str, part: Any, row: int, location: str) -> Sample:
    # Don't read in a thread: some sets use global random state or one file handle.
    try:
        image, label = part[row]
    except _BAD_IMAGE as error:
        return Sample(label=0, location=location, read=_failing(str(error)))
    try:
        label = operator.index(label)
    except TypeError:
        label = -1
    if label < 0 or not isinstance(image, Image.Image):
        raise UserError(f"torchvision:{name}: is not a set of images with one class each")
    return Sample(label=label, location=location, read=partial(to_square, image))


def _failing(reason: str) -> Callable[[Reading], Square]:
    def read(_reading: Reading) -> Square:
        raise BadImageError(reason)

    return read
