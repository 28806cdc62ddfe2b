"""Where images come from: a fixed sequence of labelled images, usually folders of classes."""

import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spaces.errors import UserError
from spaces.yaml_files import shorten
from trainables.data.image_files import Square, read_square
from trainables.data.image_walk import (
    SYSTEM_FOLDERS,
    PassedOver,
    count_files,
    image_suffixes,
    images_in,
    is_hidden,
)
from trainables.data.splits import SPLITS, SplitName

SplitsFrom = Literal["auto", "folders", "random"]
SPLIT_NAMES: Mapping[str, SplitName] = {
    **{"train": "train", "training": "train"},
    **{"val": "validation", "valid": "validation", "validation": "validation"},
    **{"test": "test", "testing": "test"},
}
"""What people call the splits, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image that has not been decoded yet."""

    label: int
    location: str
    """Where a person finds it."""
    read: Callable[[int], Square]
    """Decodes it at a size, in any thread. Raises BadImageError."""
    split: SplitName | None = None
    """Where the source puts it; None: it does not say."""
    group: str | None = None
    """Images of a group belong together, such as those of one animal; None: of no group."""


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
    splits: tuple[SplitName, ...] = ()
    """Those that the source itself fills."""
    notes: tuple[str, ...] = ()


def readable(name: str) -> str:
    r"""A name of the file system as it can be printed and stored.

    Composed letters, so that é is é whoever wrote it; bytes that are no UTF-8 as \xe9.
    """
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def folder_source(folder: Path, *, splits: SplitsFrom = "auto") -> Source:
    """Find the images in a folder of class folders, at any depth in each, without decoding them.

    splits: `folders` takes folders named train, validation (or val, valid) and test, each with
    class folders, as the splits; `random` takes every folder as a class; `auto` takes folders as
    splits if all of them are. Raises UserError if there are no images.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "there is no such folder"
        raise UserError(f"{folder}: {what}; name a folder that has a folder for each class")
    parts = None if splits == "random" else _split_folders(folder)
    if parts is None and splits == "folders":
        raise UserError(
            f"{folder}: --splits folders needs folders named train and test or validation, each"
            " with a folder for each class"
        )
    of_split = {None: [folder]} if parts is None else parts
    passed = PassedOver()
    folders = {
        (split, name): found
        for split, tops in of_split.items()
        for name, found in _class_folders(tops, passed).items()
    }
    num_images = {
        part: sum(1 for at in found for _ in images_in(at, passed))
        for part, found in folders.items()
    }
    names = sorted({name for _, name in folders})
    counts = [
        sum(count for (_, name), count in num_images.items() if name == wanted) for wanted in names
    ]
    if not sum(counts):
        others = passed.kinds.total() + passed.system.total()
        raise UserError(
            f"{folder}: no images in class folders ({len(names)} folders, {others} other files);"
            f" put images into {folder / 'CLASS'}, a folder for each class"
        )
    label_of = {name: label for label, name in enumerate(names)}

    def samples() -> Iterator[Sample]:
        for (split, name), found in sorted(folders.items(), key=_by_class_and_split):
            for file in (file for at in found for file in images_in(at)):
                yield Sample(
                    label=label_of[name],
                    location=readable(file.relative_to(folder).as_posix()),
                    read=_reader(file),
                    split=split,
                )

    return Source(
        name=readable(folder.resolve().name),
        classes=tuple(names),
        counts=tuple(counts),
        total=sum(counts),
        samples=samples,
        splits=tuple(split for split in SPLITS if parts and split in parts),
        notes=(*_notes_of_splits(parts, num_images), *_notes_of_names(of_split), *passed.notes()),
    )


def _by_class_and_split(item: tuple[tuple[SplitName | None, str], list[Path]]) -> tuple[str, int]:
    (split, name), _ = item
    return name, SPLITS.index(split) if split else 0


def _split_folders(folder: Path) -> dict[SplitName | None, list[Path]] | None:
    """The folders of each split; None unless every folder is one, and they have class folders."""
    parts: dict[SplitName | None, list[Path]] = {}
    for part in _folders_in(folder):
        split = SPLIT_NAMES.get(part.name.lower())
        if split is None or not _folders_in(part):
            return None
        parts.setdefault(split, []).append(part)
    return parts if "train" in parts and len(parts) > 1 else None


def _class_folders(tops: Sequence[Path], passed: PassedOver) -> dict[str, list[Path]]:
    """Class folders by readable name. Spellings of the same letters are one class."""
    found: dict[str, list[Path]] = {}
    suffixes = image_suffixes()
    for top in tops:
        for folder in _folders_in(top):
            found.setdefault(readable(folder.name), []).append(folder)
        for entry in top.iterdir():
            if entry.name in SYSTEM_FOLDERS:
                passed.system[entry.name] += count_files(entry)
            elif not is_hidden(entry.name):
                passed.loose += entry.is_file() and entry.suffix.lower() in suffixes
    return found


def _folders_in(folder: Path) -> list[Path]:
    """Folders that people made, by name."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    return [
        entry
        for entry in entries
        if not is_hidden(entry.name) and entry.name not in SYSTEM_FOLDERS and entry.is_dir()
    ]


def _notes_of_splits(
    parts: Mapping[SplitName | None, list[Path]] | None,
    num_images: Mapping[tuple[SplitName | None, str], int],
) -> list[str]:
    if parts is None:
        return []
    folders = ", ".join(path.name for paths in parts.values() for path in paths)
    notes = [f"splits are those of the folders {folders}; --splits random draws others"]
    notes += [
        f"{split} has no folder: it is taken from train" for split in SPLITS if split not in parts
    ]
    of_class: dict[str, set[SplitName | None]] = {}
    for (split, name), count in num_images.items():
        if count:
            of_class.setdefault(name, set()).add(split)
    for split in parts:
        alone = [name for name, where in of_class.items() if where == {split}]
        if alone:
            notes.append(f"classes that only {split} has: {shorten(', '.join(sorted(alone)))}")
    return notes


def _notes_of_names(of_split: Mapping[SplitName | None, list[Path]]) -> list[str]:
    spellings: dict[str, set[str]] = {}
    for tops in of_split.values():
        for top in tops:
            for folder in _folders_in(top):
                spellings.setdefault(readable(folder.name), set()).add(folder.name)
    several = [name for name, written in spellings.items() if len(written) > 1]
    return [
        f"folders whose names are spelt in two ways are one class: {', '.join(several)}"
    ] * bool(several)


def _reader(file: Path) -> Callable[[int], Square]:
    return lambda size: read_square(file, size)
