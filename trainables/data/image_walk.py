"""Finds the image files of a folder, at any depth, and counts what it passes over.

Servers and desktops put files of their own beside photographs: thumbnails of the same images, waste
bins, metadata. They are known by name. Nothing is opened here, so a pipe can't make it wait.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spaces.errors import UserError
from spaces.files import reason
from trainables.data.image_files import image_suffixes

# In lower case: Synology, QNAP, Windows, macOS' zip files and ext4.
_SYSTEM_FOLDERS = frozenset(
    (
        *("@eadir", "@recycle", "@tmp", "#recycle", "#snapshot"),
        *("$recycle.bin", "system volume information", "__macosx", "lost+found"),
    )
)
_SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini"))
_NAMED = 3


@dataclass(slots=True)
class PassedOver:
    """What was found beside the images."""

    system: Counter[str] = field(default_factory=Counter)
    """Files of systems, and hidden ones, by what a person calls them."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Files that are no photographs, by suffix."""
    special: list[str] = field(default_factory=list)
    """Pipes, sockets and devices."""
    loose: int = 0
    """Images in no class folder."""

    def add_system(self, path: Path) -> bool:
        """Count a file or folder if a system made it, or if it is hidden. Returns whether it is."""
        name, known = path.name, path.name.lower()
        if known in _SYSTEM_FOLDERS:
            self.system[f"in {name}"] += _count_files(path)
        elif known in _SYSTEM_FILES or name == ".DS_Store":
            self.system[name] += 1
        elif name.startswith("."):
            self.system["._*" if name.startswith("._") else "hidden"] += _count_files(path)
        else:
            return False
        return True

    def notes(self) -> list[str]:
        """A line for people for each of them that is not empty."""
        lines = []
        if self.system:
            counts = sorted(self.system.items())
            names = ", ".join(f"{count:,} {name}" for name, count in counts)
            lines.append(f"files of systems, and hidden ones, passed over: {names}")
        if self.kinds:
            suffixes = ", ".join(sorted(readable(suffix or "no suffix") for suffix in self.kinds))
            lines.append(
                f"files passed over, since they are no photographs ({suffixes}):"
                f" {self.kinds.total():,}"
            )
        if self.special:
            more = f" and {len(self.special) - _NAMED} more" * (len(self.special) > _NAMED)
            names = ", ".join(map(readable, self.special[:_NAMED]))
            lines.append(f"pipes, sockets and devices passed over: {names}{more}")
        if self.loose:
            lines.append(f"images left out, since they are in no class folder: {self.loose:,}")
        return lines


def readable(name: str) -> str:
    r"""A name of the file system as it can be printed and stored.

    Composed letters, so that é is é whoever wrote it; bytes that are no UTF-8 as \xe9.
    """
    if name.isascii():  # most are, and this is fast
        return name
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def images_in(folder: Path, passed: PassedOver | None = None) -> Iterator[Path]:
    """Yield a folder's image files, at any depth, sorted.

    A file is an image if its suffix says so. passed: counts what is passed over. Raises UserError
    if a folder can't be read.
    """
    return _images_in(folder, PassedOver() if passed is None else passed, image_suffixes(), ())


def entries_of(folder: Path) -> list[Path]:
    """What a folder holds, sorted. Raises UserError if it can't be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: {reason(error)}") from None


def _images_in(
    folder: Path, passed: PassedOver, suffixes: frozenset[str], above: tuple[Path, ...]
) -> Iterator[Path]:
    """Follows links, but not in circles."""
    real = folder.resolve()
    if real in above:
        return
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: {reason(error)}") from None
    for entry in found:
        path = folder / entry.name
        if passed.add_system(path):
            continue
        if entry.is_dir():
            yield from _images_in(path, passed, suffixes, (*above, real))
        elif not entry.is_file() and path.exists():  # reading it might wait for ever
            passed.special.append(str(path))
        elif path.suffix.lower() in suffixes:
            yield path
        else:
            passed.kinds[path.suffix.lower()] += 1


def _count_files(path: Path) -> int:
    """How many files a folder has, at any depth; 1 for a file."""
    return sum(len(files) for *_, files in os.walk(path)) if path.is_dir() else 1
