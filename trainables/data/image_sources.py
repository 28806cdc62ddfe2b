"""Where images come from: a fixed sequence of labelled images, usually folders of classes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from spaces.errors import UserError
from trainables.data.image_files import (
    Reading,
    Square,
    content_digest,
    image_suffixes,
    read_square,
)
from trainables.data.image_walk import PassedOver, entries_of, images_in, readable
from trainables.data.splits import SPLITS, SplitName, some_of

SplitsFrom = Literal["auto", "folders", "random"]
SPLIT_NAMES: Mapping[str, SplitName] = {
    **{"train": "train", "training": "train"},
    **{"val": "validation", "valid": "validation", "validation": "validation"},
    **{"test": "test", "testing": "test"},
}
"""What people call the splits, in lower case."""


def _no_digest() -> bytes | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image that has not been decoded yet."""

    label: int
    location: str
    """Where a person finds it."""
    read: Callable[[Reading], Square]
    """Decodes it, in any thread. Raises BadImageError."""
    digest: Callable[[], bytes | None] = _no_digest
    """The digest of its file, without decoding it; None: it has none."""
    path: str = ""
    """Its path below the source, without the folder of a split, for groups."""
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
    grouped: bool = False
    """Whether samples may have groups."""
    notes: tuple[str, ...] = ()


def file_sample(
    file: Path,
    label: int,
    location: str,
    *,
    path: str = "",
    split: SplitName | None = None,
    group: str | None = None,
) -> Sample:
    """The sample of an image file. path: where it differs from the location."""
    location = readable(location)
    return Sample(
        label=label,
        location=location,
        path=path or location,
        read=partial(read_square, file),
        digest=partial(content_digest, file),
        split=split,
        group=group,
    )


def folder_source(folder: Path, *, splits: SplitsFrom = "auto") -> Source:
    """Find the images in a folder of class folders, at any depth in each, without decoding them.

    Folders train, validation (or val, valid) and test, each with class folders, are taken as the
    splits. splits: `folders` insists on them; `random` takes their images as if they lay together.
    Raises UserError if there are no images.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "there is no such folder"
        raise UserError(f"{folder}: {what}; name a folder that has a folder for each class")
    passed = PassedOver()
    tops, notes = _tops(folder)
    if None in tops and splits == "folders":
        raise UserError(
            f"{folder}: --splits folders needs a folder train, and one named validation or test,"
            " each with a folder for each class"
        )
    if None not in tops:
        _folders_in(folder, passed)
        _count_loose(folder, passed)
    classes: dict[SplitName | None, dict[str, list[Path]]] = {
        split: _class_folders(found, passed) for split, found in tops.items()
    }
    total = Counter[str]()
    for of_class in classes.values():
        for name, found in of_class.items():
            total[name] += sum(1 for at in found for _ in images_in(at, passed))
    names = sorted({name for of_class in classes.values() for name in of_class})
    if not total.total():
        others = passed.kinds.total() + passed.system.total()
        raise UserError(
            f"{folder}: no images in class folders ({len(names)} folders, {others} other files);"
            f" put images into {folder / 'CLASS'}, a folder for each class"
        )
    given: tuple[SplitName, ...] = tuple(split for split in SPLITS if split in tops)
    if given and splits == "random":
        notes = [f"images of the folders for {', '.join(given)} are split anew"]
        given = ()

    def samples() -> Iterator[Sample]:
        for label, name in enumerate(names):
            for split in tops:
                for at in classes[split].get(name, ()):
                    for file in images_in(at):
                        written = str(file)  # pathlib is slow
                        yield file_sample(
                            file,
                            label,
                            written.removeprefix(f"{folder}/"),
                            path=f"{name}/{readable(written.removeprefix(f'{at}/'))}",
                            split=split if given else None,
                        )

    return Source(
        name=readable(folder.resolve().name),
        classes=tuple(names),
        counts=tuple(total[name] for name in names),
        total=total.total(),
        samples=samples,
        splits=given,
        notes=(*notes, *_notes_of_spellings(classes), *passed.notes()),
    )


def _tops(folder: Path) -> tuple[dict[SplitName | None, list[Path]], list[str]]:
    """The folders that hold class folders, by split, and notes; under None if there are no splits.

    Splits are a train folder with class folders, and another one.
    """
    named: dict[SplitName, list[Path]] = {}
    folders = _folders_in(folder, PassedOver())
    for part in folders:
        split = SPLIT_NAMES.get(part.name.lower())
        if split is not None:
            named.setdefault(split, []).append(part)
    parts: dict[SplitName | None, list[Path]] = {
        split: found
        for split in SPLITS
        if (found := [part for part in named.get(split, ()) if _folders_in(part, PassedOver())])
    }
    if "train" not in parts or len(named) < 2:
        return {None: [folder]}, []
    taken = [part for found in parts.values() for part in found]
    notes = [
        f"splits are those of the folders {', '.join(part.name for part in taken)};"
        " --splits random draws others"
    ]
    left = [readable(part.name) for part in folders if part not in taken]
    if left:
        notes.append(f"folders left out, since they are no split of class folders: {some_of(left)}")
    return parts, notes


def _class_folders(tops: Sequence[Path], passed: PassedOver) -> dict[str, list[Path]]:
    """Class folders by readable name. Spellings of the same letters are one class."""
    found: dict[str, list[Path]] = {}
    for top in tops:
        for folder in _folders_in(top, passed):
            found.setdefault(readable(folder.name), []).append(folder)
        _count_loose(top, passed)
    return found


def _count_loose(top: Path, passed: PassedOver) -> None:
    suffixes = image_suffixes()
    passed.loose += sum(
        entry.suffix.lower() in suffixes and entry.is_file() and entry.name[0] != "."
        for entry in entries_of(top)
    )


def _folders_in(folder: Path, passed: PassedOver) -> list[Path]:
    """Folders that people made, by name. passed: counts the others, and files of systems."""
    return [
        entry for entry in entries_of(folder) if not passed.add_system(entry) and entry.is_dir()
    ]


def _notes_of_spellings(
    classes: Mapping[SplitName | None, Mapping[str, Sequence[Path]]],
) -> list[str]:
    spellings: dict[str, set[str]] = {}
    for of_class in classes.values():
        for name, found in of_class.items():
            spellings.setdefault(name, set()).update(folder.name for folder in found)
    several = [name for name, written in spellings.items() if len(written) > 1]
    if not several:
        return []
    return [f"folders whose names are spelt in two ways are one class: {some_of(several)}"]
