"""Decoding every image of a split, in threads and in order."""

import itertools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from car_ext.datasets.split import Images

LONGEST = 256  # images that a thread decodes at a time; neighbours lie together in their file
TURNS = 4  # each thread has at least, so that none works on alone at the end
AHEAD = 2  # blocks a thread that may wait to be taken, which bounds the memory where they are taken slowly


def block_length(images: int, threads: int) -> int:
    """How many images a thread decodes at a time."""
    return max(1, min(LONGEST, images // (TURNS * threads)))


def blocks(
    images: Images, shape: tuple[int, ...], title: str, step: int, threads: int | None = None
) -> Iterator[np.ndarray]:
    """All images in order, uint8 (step, H, W, C) and a shorter rest, with a progress bar on a terminal.

    Args:
        images: N of them.
        shape: (N, H, W, C).
        title: of the bar.
        step: images of a block.
        threads: None is one a core.

    Raises:
        InputError: an image cannot be read or decoded.
    """
    threads = threads or os.cpu_count() or 1

    def decoded(start: int) -> np.ndarray:
        block = np.empty((min(step, len(images) - start), *shape[1:]), np.uint8)
        for row in range(len(block)):
            block[row] = images[start + row]
        return block

    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(images), desc=title, unit="image", disable=None, leave=False) as bar,
    ):
        starts = iter(range(0, len(images), step))
        coming = deque(pool.submit(decoded, start) for start in itertools.islice(starts, AHEAD * threads))
        try:
            while coming:
                block = coming.popleft().result()
                coming.extend(pool.submit(decoded, start) for start in itertools.islice(starts, 1))
                bar.update(len(block))
                yield block
        finally:
            for future in coming:  # of an error, or of one who stops taking
                future.cancel()


def decode_all(images: Images, shape: tuple[int, ...], title: str, threads: int | None = None) -> np.ndarray:
    """Every image as one uint8 array of a shape, (N, H, W, C).

    Args:
        images, shape, title, threads: as of `blocks`.

    Raises:
        InputError: as `blocks`.
    """
    array, start = np.empty(shape, np.uint8), 0
    for block in blocks(images, shape, title, block_length(len(images), threads or os.cpu_count() or 1), threads):
        array[start : start + len(block)] = block
        start += len(block)
    return array
