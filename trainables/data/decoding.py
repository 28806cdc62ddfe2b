"""Decodes the images of a source with all cores, and takes those from disk that were decoded."""

import json
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
from PIL import Image

from spaces.errors import UserError
from spaces.files import absolute
from trainables.data.dataset import data_files
from trainables.data.image_files import BadImageError, Facts, Reading, Square
from trainables.data.image_sources import Sample
from trainables.data.image_table import DAMAGE, PixelTable, open_arrow, open_pixels
from trainables.data.near_duplicates import perceptual_hash
from trainables.system.cores import num_cores

# Decoded images that may wait for their turn, for each thread.
_READ_AHEAD = 4
_READING = "reading.json"


class DecodedImages:
    """Images that were decoded before, by the digest of their file. Keeps some 150 bytes each."""

    def __init__(self, rows: pa.Table, pixels: PixelTable) -> None:
        self._rows, self._pixels = rows, pixels
        self._positions = rows["position"].to_numpy()
        self._row_of = {
            file: row for row, file in enumerate(rows["file"].to_pylist()) if file is not None
        }

    def find(self, file: bytes) -> Square | None:
        """The image of a file with this digest."""
        row = self._row_of.get(file)
        if row is None:
            return None
        (known,) = self._rows.slice(row, 1).to_pylist()
        facts = Facts(**{name: known[name] for name in Facts.__dataclass_fields__})
        pixels = self._pixels.take([self._positions[row]])[0]
        return Square(pixels=pixels, image=Image.fromarray(pixels), facts=facts)


def keep_decoded(folder: Path, out: Path, reading: Reading) -> Path:
    """Keep a folder that `DataWriter.keep` has filled, for the next try to make or grow `out`.

    Returns where it lies: hidden, beside `out`.
    """
    (folder / _READING).write_text(json.dumps(asdict(reading)))
    kept = _kept(out)
    shutil.rmtree(kept, ignore_errors=True)
    folder.rename(kept)
    return kept


def kept_images(out: Path, reading: Reading) -> list[DecodedImages]:
    """The images that an earlier try has kept, if it read them as this one does; at most one.

    Others are removed.
    """
    kept = _kept(out)
    if not kept.is_dir():
        return []
    rows, files = data_files(1)
    try:
        if json.loads((kept / _READING).read_text()) == asdict(reading):
            table = open_arrow(kept / rows).read_all()
            return [DecodedImages(table, open_pixels(kept / files[0]))]
    except (UserError, *DAMAGE):
        pass
    remove_kept(out)
    return []


def remove_kept(out: Path) -> None:
    """Remove what `keep_decoded` has kept."""
    shutil.rmtree(_kept(out), ignore_errors=True)


def decode(
    samples: Iterator[Sample],
    reading: Reading,
    *,
    earlier: Sequence[DecodedImages] = (),
    hashed: bool = True,
) -> Iterator[tuple[Sample, Square | BadImageError]]:
    """Decode with a thread for each core. Results come in the order of the samples.

    earlier: images that need not be decoded again. hashed: compute perceptual hashes too.
    """
    threads = num_cores()
    waiting: deque[tuple[Sample, Future[Square | BadImageError]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for sample in samples:
            waiting.append((sample, pool.submit(_read, sample, reading, earlier)))
            if len(waiting) > threads * _READ_AHEAD:
                sample, result = waiting.popleft()
                yield sample, _with_hash(result.result(), hashed)
        for sample, result in waiting:
            yield sample, _with_hash(result.result(), hashed)


def _read(
    sample: Sample, reading: Reading, earlier: Sequence[DecodedImages]
) -> Square | BadImageError:
    file = sample.digest()
    found = next((square for one in earlier if file and (square := one.find(file))), None)
    try:
        square = found or sample.read(reading)
    except BadImageError as error:
        return error
    return replace(square, facts=replace(square.facts, file=file))


def _with_hash(square: Square | BadImageError, hashed: bool) -> Square | BadImageError:
    """In the one thread that asks: hashing holds the interpreter, so more threads are slower."""
    if isinstance(square, BadImageError):
        return square
    found = None if not hashed else square.facts.hash or perceptual_hash(square.image)
    return replace(square, facts=replace(square.facts, hash=found))


def _kept(out: Path) -> Path:
    out = absolute(out)
    return out.with_name(f".{out.name}.decoded")
