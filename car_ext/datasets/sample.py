"""A few images, spread over all, that tell what the others are like: their size, and whether anything is in them."""

import statistics
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from car_ext.datasets.decode import shorter_side
from car_ext.datasets.lazy import Files, LazyImages
from car_ext.datasets.mapped import MappedImages
from car_ext.datasets.picture import flat_warning, is_flat
from car_ext.errors import InputError

HEADERS, DECODED = 64, 16  # images looked at; decoding takes longer
SMALL, PHOTOGRAPH = 96, 224  # pixels: images up to the one keep their size, larger ones get the other
WILD = 4  # times larger or smaller than the size that is stored


def spread(count: int, most: int) -> list[int]:
    """Up to `most` of the positions 0 .. count - 1, evenly spread and always the same ones."""
    chosen = min(count, most)
    return [number * count // chosen for number in range(chosen)]


def default_size(source: Files, keys: Sequence[Any]) -> int:
    """The side of the stored images where none is asked for: the median shorter side up to 96 pixels, else 224.

    It is said on stderr, and a warning where images are much smaller, or much larger than small ones.

    Args:
        source: where the files are.
        keys: of all images, at least one; the headers of up to 64 of them are read.

    Raises:
        InputError: none of the images can be read.
    """
    sides: dict[Any, int] = {}
    fault = None
    for key in (keys[position] for position in spread(len(keys), HEADERS)):
        try:
            sides[key] = shorter_side(source.read(key), source.locate(key))
        except InputError as error:  # named again when it is decoded
            fault = fault or error
    if fault and not sides:
        raise fault
    median = statistics.median_low(sides.values())
    size = median if median <= SMALL else PHOTOGRAPH
    smallest, largest = min(sides, key=sides.__getitem__), max(sides, key=sides.__getitem__)
    print(
        f"images are stored at {size} x {size} pixels (median shorter side {median}, of {len(sides)} looked at); "
        "image_size (--img-size) sets another",
        file=sys.stderr,
    )
    if sides[smallest] * WILD < size or (size <= SMALL and sides[largest] > WILD * size):
        warnings.warn(
            f"image sizes differ wildly: the shorter side of {source.locate(smallest)!r} is {sides[smallest]} and that "
            f"of {source.locate(largest)!r} {sides[largest]} pixels, all are stored at {size}: check the images, or "
            "give image_size (--img-size)",
            stacklevel=2,
        )
    return size


def warn_of_flat(
    images: LazyImages, decoded: np.ndarray | MappedImages | None = None, flat: Sequence[int] | None = None
) -> None:
    """Warns, once, of images that hold nearly one value.

    Args:
        images: as they lie in their files.
        decoded: all of them, of which all are looked at; None looks at up to 16.
        flat: positions of those, where that is known.
    """
    stored = images if decoded is None else decoded
    looked_at = spread(len(images), DECODED) if decoded is None else range(len(images))
    found = [position for position in looked_at if _is_flat(stored, position)] if flat is None else flat
    if found:
        path = images.source.locate(images.keys[found[0]])
        warnings.warn(flat_warning(path, stored[found[0]], len(found), len(looked_at)), stacklevel=3)


def _is_flat(images: LazyImages | MappedImages | np.ndarray, position: int) -> bool:
    try:
        return is_flat(images[position])
    except InputError:  # named again when it is needed
        return False
