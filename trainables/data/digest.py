"""Digests that identify images and prepared data."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainables.data.image_table import UInt8Array

DIGEST_BYTES = 16


def image_digest(image: UInt8Array) -> bytes:
    """DIGEST_BYTES that identify the pixels of one image."""
    pixels = np.ascontiguousarray(image)
    return hashlib.blake2b(pixels.data, digest_size=DIGEST_BYTES).digest()


def data_digest(
    size: int,
    classes: Sequence[str],
    image_digests: bytes | bytearray,
    labels: npt.NDArray[np.int64],
    splits: npt.NDArray[np.uint8],
) -> str:
    """32 hexadecimal digits that identify pixels, labels, class names and splits."""
    whole = hashlib.sha256(json.dumps([size, list(classes)]).encode())
    whole.update(image_digests)
    whole.update(labels.astype("<i8").tobytes())
    whole.update(splits.tobytes())
    return whole.hexdigest()[:32]
