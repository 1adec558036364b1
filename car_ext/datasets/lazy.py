"""Images that are made each time they are asked for."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from car_ext.datasets.decode import decode, square
from car_ext.datasets.split import Positions
from car_ext.errors import InputError


class Files(Protocol):
    """Where image files come from: a folder, a .zip file, parquet or tar shards.

    It may also have `size(key)`, the bytes of an image file, and `stamps(keys)`, a `stamp.Stamp` of every file on disk
    that the images of these keys lie in: with it, decoded images are kept from one start to the next.
    """

    def read(self, key: Any) -> bytes:
        """The bytes of one image file."""

    def locate(self, key: Any) -> str:
        """What to call it in a message."""


class LazyImages:
    """Images decoded each time they are asked for; works in DataLoader workers, forked or spawned.

    Args:
        source: where the files are.
        keys: N of its keys, such as paths below a folder.
        image_size: height and width of the decoded images in pixels.
    """

    def __init__(self, source: Files, keys: Sequence[Any], image_size: int):
        self.source, self.keys, self.image_size = source, keys, image_size

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index` as (image_size, image_size, 3) uint8.

        Raises:
            InputError: the file cannot be read or decoded.
        """
        key = self.keys[index]
        try:
            return decode(self.source.read(key), self.image_size, self.source.locate(key))
        except InputError as error:
            raise InputError(f"{error}; car-ext data lists all such files") from None

    def take(self, positions: Positions) -> "LazyImages":
        """The images at some positions, in that order."""
        return LazyImages(self.source, [self.keys[position] for position in positions], self.image_size)


class ResizedImages:
    """Pictures in memory, resized (bicubic) each time they are asked for.

    Args:
        pictures: (N, H, W, 3) uint8.
        image_size: height and width of the resized images in pixels.
    """

    def __init__(self, pictures: np.ndarray, image_size: int):
        self.pictures, self.image_size = pictures, image_size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index` as (image_size, image_size, 3) uint8."""
        return np.array(square(Image.fromarray(self.pictures[index]), self.image_size))

    def take(self, positions: Positions) -> "ResizedImages":
        """The images at some positions, in that order."""
        return ResizedImages(self.pictures[positions], self.image_size)
