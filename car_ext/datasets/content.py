"""Stored images as they lie in their files, by which they are told apart without being decoded."""

from collections.abc import Hashable, Sequence

import numpy as np

from car_ext.datasets.lazy import LazyImages, ResizedImages
from car_ext.datasets.shards import Shards
from car_ext.datasets.split import Images


def content(images: Images | np.ndarray, index: int) -> bytes:
    """The bytes of the file of an image, or its pixels where it has none.

    Raises:
        InputError: the file cannot be read.
    """
    if isinstance(images, LazyImages):
        return images.source.read(images.keys[index])
    return (images.pictures if isinstance(images, ResizedImages) else images)[index].tobytes()


def sketch(images: Images | np.ndarray, index: int) -> Hashable:
    """What images of the same content share and most others do not, at little cost.

    That is the size of the file, or the middle row of the pixels; None where a file does not tell its size.
    """
    if isinstance(images, LazyImages):
        size = getattr(images.source, "size", None)
        return size(images.keys[index]) if size else None
    pixels = (images.pictures if isinstance(images, ResizedImages) else images)[index]
    return pixels[len(pixels) // 2].tobytes()


def stored_bytes(images: Images | np.ndarray, indices: Sequence[int]) -> int:
    """The bytes that reading some images takes at most."""
    if not isinstance(images, LazyImages):
        return 0
    if isinstance(images.source, Shards):  # the images of a row group are read together
        return sum(images.source.tree.size(file) for file in images.source.files)
    sizes = [sketch(images, index) for index in indices]
    return sum(size for size in sizes if isinstance(size, int))


def locate(images: Images | np.ndarray, index: int) -> str:
    """What to call an image in a message."""
    return images.source.locate(images.keys[index]) if isinstance(images, LazyImages) else f"number {index}"
