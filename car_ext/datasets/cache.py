"""Decoding a split once, into memory, when it fits."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from car_ext.datasets.lazy import LazyImages, ResizedImages


def default_cache_bytes() -> int:
    """A quarter of the memory that is free now; of 4 GiB where the system does not say."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            available = 4 << 30
    return available // 4


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
