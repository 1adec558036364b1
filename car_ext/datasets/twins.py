"""Images that are the same, or nearly, by 64 bits of what they look like."""

from collections.abc import Sequence

import numpy as np

SIDE = 32  # pixels of the grey square that is looked at
LOW = 8  # lowest frequencies a side
NEAR = 4  # bits of 64 in which images that count as nearly the same may differ
POPULATION = np.array([bin(number).count("1") for number in range(1 << 16)], np.uint8)
ROWS = 4096  # of a bucket that are compared at a time


def looks(grey: np.ndarray) -> np.ndarray:
    """The perceptual hash of images: which of their lowest frequencies are above the median.

    Source: the pHash of Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, as the
    package ImageHash computes it: 8 x 8 coefficients of the discrete cosine transform of 32 x 32 pixels.

    Args:
        grey: (N, 32, 32) numbers.

    Returns:
        (N,) uint64.
    """
    from scipy.fft import dctn  # slow to import

    low = dctn(grey.astype(np.float32), axes=(1, 2))[:, :LOW, :LOW].reshape(len(grey), -1)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)


def near(hashes: np.ndarray, most: int = NEAR) -> np.ndarray:
    """Pairs of hashes that differ in few bits.

    Hashes that differ in at most `most` bits agree in one of `most` + 1 bands of theirs; those of one band lie together
    when sorted by it, so that few are ever compared.

    Args:
        hashes: (N,) uint64, none twice.
        most: bits, from 0 to 15.

    Returns:
        (P, 2) positions, each pair once, the smaller one first, sorted.
    """
    edges = np.linspace(0, 64, most + 2).astype(int)
    found = [np.empty((0, 2), np.int64)]
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order][:1] + np.uint64(1)))
        for bucket in np.split(order, starts[1:]) if len(order) else []:
            if len(bucket) > 1:
                found.append(_near_in(hashes, np.sort(bucket), most))
    return np.unique(np.concatenate(found), axis=0)


def _near_in(hashes: np.ndarray, bucket: np.ndarray, most: int) -> np.ndarray:
    """The same among some positions, each compared with each."""
    pairs = []
    for start in range(0, len(bucket), ROWS):
        rows = bucket[start : start + ROWS]
        for other in range(start, len(bucket), ROWS):
            columns = bucket[other : other + ROWS]
            first, second = np.nonzero(differing(hashes[rows][:, None], hashes[columns]) <= most)
            pairs.append(np.stack([rows[first], columns[second]], axis=1))
    found = np.concatenate(pairs)
    return found[found[:, 0] < found[:, 1]]


def differing(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """In how many bits uint64 numbers differ."""
    words = np.bitwise_xor(first, second)
    return sum(POPULATION[(words >> np.uint64(shift)) & np.uint64(0xFFFF)] for shift in (0, 16, 32, 48))


def groups(pairs: np.ndarray, count: int) -> list[np.ndarray]:
    """The positions that pairs connect, directly or through others, of 0 .. count - 1; those with none are left out."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if count else []
    return sorted((part for part in parts if len(part) > 1), key=lambda part: int(part[0]))


def copies(digests: Sequence[bytes]) -> list[np.ndarray]:
    """The positions of equal digests, of those that several have, each sorted."""
    found: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        found.setdefault(digest, []).append(position)
    return [np.array(same) for same in found.values() if len(same) > 1]
