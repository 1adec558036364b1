"""Decoding a split once, into memory, when it fits."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from car_ext.datasets.lazy import LazyImages, ResizedImages


def cached_bytes(images: LazyImages | ResizedImages) -> int:
    """Memory the decoded images take."""
    return len(images) * images.image_size**2 * 3


def decode_all(images: LazyImages | ResizedImages, title: str) -> np.ndarray:
    """Every image as one (N, H, W, 3) uint8 array, with a progress bar on a terminal.

    Raises:
        InputError: an image cannot be read or decoded.
    """
    array = np.empty((len(images), images.image_size, images.image_size, 3), np.uint8)
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
