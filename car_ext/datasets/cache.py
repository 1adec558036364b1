"""Decoding a split once, into memory, when it fits."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from car_ext.datasets.split import Images

LONGEST = 256  # images that a thread decodes at a time; neighbours lie together in their file
TURNS = 4  # each thread has at least, so that none works on alone at the end


def decode_all(images: Images, shape: tuple[int, ...], title: str) -> np.ndarray:
    """Every image as one uint8 array of a shape, (N, H, W, C), with a progress bar on a terminal.

    Raises:
        InputError: an image cannot be read or decoded.
    """
    array, threads = np.empty(shape, np.uint8), os.cpu_count() or 1
    step = max(1, min(LONGEST, len(images) // (TURNS * threads)))
    starts = range(0, len(images), step)

    def fill(start: int) -> int:
        stop = min(start + step, len(images))
        for i in range(start, stop):
            array[i] = images[i]
        return stop - start

    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=len(images), desc=title, unit="image", disable=None, leave=False) as bar,
    ):
        for count in pool.map(fill, starts):
            bar.update(count)
    return array
