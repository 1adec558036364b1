"""Decoding a split once, into memory, when it fits."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from car_ext.datasets.split import Images


def decode_all(images: Images, shape: tuple[int, ...], title: str) -> np.ndarray:
    """Every image as one uint8 array of a shape, (N, H, W, C), with a progress bar on a terminal.

    Raises:
        InputError: an image cannot be read or decoded.
    """
    array = np.empty(shape, np.uint8)
    starts = range(0, len(images), 256)

    def fill(start: int) -> int:
        stop = min(start + 256, len(images))
        for i in range(start, stop):
            array[i] = images[i]
        return stop - start

    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(images), desc=title, unit="image", disable=None, leave=False) as bar,
    ):
        for count in pool.map(fill, starts):
            bar.update(count)
    return array
