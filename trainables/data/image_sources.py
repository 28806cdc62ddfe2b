"""Where images come from: a fixed sequence of labelled images, usually folders of classes."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spaces.errors import UserError
from trainables.data.image_files import Square, image_suffixes, read_square


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image that has not been decoded yet."""

    label: int
    location: str
    """Where a person finds it."""
    read: Callable[[int], Square]
    """Decodes it at a size, in any thread. Raises BadImageError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Labelled images in a fixed order, read one after the other."""

    name: str
    classes: tuple[str, ...] | None
    """None if the source only has numbers."""
    counts: tuple[int, ...] | None
    """Images in each class; None if that is unknown before reading them."""
    total: int
    samples: Callable[[], Iterator[Sample]]
    notes: tuple[str, ...] = ()


def folder_source(folder: Path) -> Source:
    """Find the images in a folder of class folders, at any depth in each, without decoding them.

    A file is an image if its suffix says so. Names that start with a dot are ignored. Raises
    UserError if there are no images.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "there is no such folder"
        raise UserError(f"{folder}: {what}; name a folder that has a folder for each class")
    suffixes = image_suffixes()
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry.name)
    )
    counts, others = [], Counter[str]()
    for name in names:
        found = Counter(file.suffix.lower() for file in _walk(folder / name))
        counts.append(sum(count for suffix, count in found.items() if suffix in suffixes))
        others.update({suffix: found[suffix] for suffix in found.keys() - suffixes})
    loose = sum(
        entry.is_file() and entry.suffix.lower() in suffixes and not _is_hidden(entry.name)
        for entry in folder.iterdir()
    )
    if not sum(counts):
        found = f"{loose} images outside" if loose else f"{others.total()} other files"
        raise UserError(
            f"{folder}: no images in class folders ({len(names)} folders, {found});"
            f" put images into {folder / 'CLASS'}, a folder for each class"
        )

    def samples() -> Iterator[Sample]:
        for label, name in enumerate(names):
            for file in images_in(folder / name):
                location = file.relative_to(folder).as_posix()
                yield Sample(label=label, location=location, read=_reader(file))

    notes = []
    if others:
        kinds = ", ".join(sorted(suffix or "no suffix" for suffix in others))
        notes.append(
            f"files left out, since Pillow can't read their kinds ({kinds}): {others.total()}"
        )
    if loose:
        notes.append(f"images left out, since they are in no class folder: {loose}")
    return Source(
        name=folder.resolve().name,
        classes=tuple(names),
        counts=tuple(counts),
        total=sum(counts),
        samples=samples,
        notes=tuple(notes),
    )


def images_in(folder: Path) -> Iterator[Path]:
    """Yield a folder's image files, at any depth, sorted. Names with a leading dot are ignored."""
    suffixes = image_suffixes()
    return (file for file in _walk(folder) if file.suffix.lower() in suffixes)


def _reader(file: Path) -> Callable[[int], Square]:
    return lambda size: read_square(file, size)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Every file that is not hidden, at any depth, sorted. Follows links, but not in circles."""
    real = folder.resolve()
    if real in above:
        return
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    for name, is_folder in found:
        if _is_hidden(name):
            continue
        if is_folder:
            yield from _walk(folder / name, (*above, real))
        else:
            yield folder / name
