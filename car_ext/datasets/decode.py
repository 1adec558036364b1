"""Decoding for training: as `picture.py`, whose refusals become an `InputError`."""

import io

import numpy as np
from PIL import Image

from car_ext.datasets import picture
from car_ext.datasets.picture import EXTENSIONS, FORMATS, square
from car_ext.errors import InputError

__all__ = ["EXTENSIONS", "FORMATS", "decode", "shorter_side", "square"]


def decode(data: bytes, image_size: int, path: str) -> np.ndarray:
    """An image file as (image_size, image_size, 3) uint8 RGB, see `picture.decode`.

    Args:
        data: the whole file.
        image_size: pixels; the shorter side is resized to it and the centre square is kept.
        path: names the file in the error message.

    Raises:
        InputError: the bytes are no intact image of a known format and range, or of an unreasonable size.
    """
    try:
        return picture.decode(data, image_size, path)
    except picture.Undecodable as error:
        raise InputError(str(error)) from None  # a worker sends the text of a chain as well


def shorter_side(data: bytes, path: str) -> int:
    """Pixels of the shorter side of an image file, read from its header.

    Raises:
        InputError: as `decode`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return min(image.size)
    except Exception as error:
        raise InputError(str(picture.undecodable(path, error))) from None
