"""Finds near-duplicates: images saved again, resized, cropped a little, or frames of a burst.

Two perceptual hashes of 64 bits of the `imagehash` library are compared: one of the lowest
frequencies (pHash), one of the gradients (dHash). Each alone takes some different images for the
same from about 12 differing bits on; both together rarely do. Mirrored and rotated images, and
crops by more than some 5 % of a side, are mostly not found.
"""

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.data.splits import connected

HASH_BYTES = 16
# Images are near-duplicates if each hash differs in at most so many of its 64 bits.
MOST_BITS = 10
# Hashes are computed from so many pixels a side; pHash asks for as many.
_SIDE = 32
# Images with a smaller range of grey, of 255, are of one colour: their hashes are noise.
_LEAST_RANGE = 8
# Of 11 differing bits or fewer, one of 4 bands of 16 bits has at most 2.
_BANDS, _BAND_BITS = 4, 16
_FLIPS = [0, *(1 << one | 1 << two for one in range(_BAND_BITS) for two in range(one + 1))]
_PAIRS_AT_ONCE = 2_000_000


def perceptual_hash(image: Image.Image) -> bytes | None:
    """HASH_BYTES of an RGB image; None if it is of one colour."""
    small = image.reduce(max(1, min(image.size) // _SIDE)).convert("L")  # most of the way, fast
    if small.size != (_SIDE, _SIDE):
        small = small.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    if np.ptp(np.asarray(small)) < _LEAST_RANGE:
        return None
    bits = [imagehash.phash(small).hash, imagehash.dhash(small).hash]
    return np.packbits(np.concatenate(bits)).tobytes()


def near_pairs(hashes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(pairs, 2) row numbers of near-duplicates, with rows of equal hashes as a chain.

    hashes: (rows, HASH_BYTES). Rows are looked up by bands of their hashes, so that not all pairs
    are compared; all near-duplicates are found.
    """
    if not len(hashes):
        return np.empty((0, 2), dtype=np.int64)
    different, first, same = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    chain = np.stack([first[same.reshape(-1)], np.arange(len(hashes))], axis=1)
    both = np.ascontiguousarray(different).view(">u8").astype(np.uint64)
    frequencies, gradients = both[:, 0], both[:, 1]
    pairs = [chain[chain[:, 0] != chain[:, 1]]]
    for number in range(_BANDS):
        band = (frequencies >> np.uint64(_BAND_BITS * number)).astype(np.uint16).astype(np.int64)
        in_order = np.argsort(band, kind="stable")
        sizes = np.bincount(band, minlength=2**_BAND_BITS)
        starts = np.cumsum(sizes) - sizes
        for flips in _FLIPS:  # rows whose band differs in just these bits
            counts = sizes[band ^ flips]
            for rows in _in_chunks(counts):
                one = np.repeat(rows, counts[rows])
                before = np.cumsum(counts[rows]) - counts[rows]
                within = np.arange(len(one)) - np.repeat(before, counts[rows])
                other = in_order[starts[band[one] ^ flips] + within]
                for hashed in (frequencies, gradients):
                    near = (one < other) & (_count_bits(hashed[one] ^ hashed[other]) <= MOST_BITS)
                    one, other = one[near], other[near]
                pairs.append(np.stack([first[one], first[other]], axis=1))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def clusters(num_rows: int, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(rows,) numbers of clusters, from 0; -1 for rows that are in no pair.

    A row belongs to a cluster if it is near to any row of it.
    """
    component = connected(num_rows, pairs)
    paired = np.unique(pairs)
    found = np.full(num_rows, -1, dtype=np.int64)
    found[paired] = np.unique(component[paired], return_inverse=True)[1].reshape(-1)
    return found


def _in_chunks(counts: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Rows with candidates, cut so that each chunk has a bounded number of them."""
    rows = np.flatnonzero(counts)
    if not len(rows):
        return []
    ends = np.cumsum(counts[rows]) // _PAIRS_AT_ONCE
    return np.split(rows, np.flatnonzero(np.diff(ends)) + 1)


def _count_bits(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.integer]:
    """How many bits of each value are set."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(values)
    return np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
