"""Finds the image files of a folder, at any depth, and counts what it passes over.

Servers and desktops put files of their own beside photographs: thumbnails of the same images, waste
bins, metadata. They are known by name. Nothing is opened here, so a pipe can't make it wait.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from spaces.errors import UserError

# Synology, QNAP, Windows, macOS' zip files and ext4.
SYSTEM_FOLDERS = frozenset(
    (
        *("@eaDir", "@Recycle", "@tmp", "#recycle", "#snapshot"),
        *("$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found"),
    )
)
SYSTEM_FILES = frozenset(("Thumbs.db", "ehthumbs.db", "desktop.ini"))
# Formats that Pillow opens, or only knows by name, but that hold no photograph: videos, documents,
# drawings and measurements. Some of them run other programs.
_NO_PHOTOGRAPHS = frozenset(
    ("BUFR", "EPS", "FLI", "GBR", "GRIB", "HDF5", "MPEG", "PDF", "WMF", "XVTHUMB")
)


@dataclass(slots=True)
class PassedOver:
    """What was found beside the images."""

    system: Counter[str] = field(default_factory=Counter)
    """Files in each system folder, and system files, by name."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Files that are no images, by suffix."""
    special: list[str] = field(default_factory=list)
    """Pipes, sockets and devices."""
    loose: int = 0
    """Images in no class folder."""

    def notes(self) -> list[str]:
        """A line for people for each of them that is not empty."""
        lines = []
        if self.system:
            names = ", ".join(
                f"{count:,} in {name}" if name in SYSTEM_FOLDERS else f"{count:,} {name}"
                for name, count in sorted(self.system.items())
            )
            lines.append(f"files of systems passed over: {names}")
        if self.kinds:
            suffixes = ", ".join(sorted(suffix or "no suffix" for suffix in self.kinds))
            lines.append(
                f"files passed over, since they are no photographs ({suffixes}):"
                f" {self.kinds.total():,}"
            )
        if self.special:
            lines.append(f"pipes, sockets or devices passed over: {', '.join(self.special)}")
        if self.loose:
            lines.append(f"images left out, since they are in no class folder: {self.loose:,}")
        return lines


def image_suffixes() -> frozenset[str]:
    """Suffixes of the photographs that Pillow reads, in lower case and with the dot."""
    suffixes = Image.registered_extensions()  # also fills Image.OPEN
    kinds = Image.OPEN.keys() - _NO_PHOTOGRAPHS
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in kinds)


def images_in(folder: Path, passed: PassedOver | None = None) -> Iterator[Path]:
    """Yield a folder's image files, at any depth, sorted.

    A file is an image if its suffix says so. Hidden names, which start with a dot, are ignored.
    passed: counts what is passed over. Raises UserError if a folder can't be read.
    """
    return _images_in(folder, passed or PassedOver(), image_suffixes(), ())


def count_files(folder: Path) -> int:
    """How many files a folder has, at any depth."""
    return sum(len(files) for *_, files in os.walk(folder))


def is_hidden(name: str) -> bool:
    """Whether a name is not meant to be seen."""
    return name.startswith(".")


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
        raise UserError(f"{folder}: {error.strerror}") from None
    for entry in found:
        path = folder / entry.name
        if is_hidden(entry.name):
            continue
        if entry.is_dir():
            if entry.name in SYSTEM_FOLDERS:
                passed.system[entry.name] += count_files(path)
            else:
                yield from _images_in(path, passed, suffixes, (*above, real))
        elif entry.name in SYSTEM_FILES:
            passed.system[entry.name] += 1
        elif not entry.is_file() and path.exists():  # reading it might wait for ever
            passed.special.append(str(path))
        elif path.suffix.lower() in suffixes:
            yield path
        else:
            passed.kinds[path.suffix.lower()] += 1
