"""Images by their names."""

from collections.abc import Collection

import numpy as np

from car_ext.datasets import load
from car_ext.datasets.options import DataOptions
from car_ext.text import image_names


def named_images(data: str, names: Collection[str], options: DataOptions | None = None) -> dict[str, np.ndarray]:
    """The images of some names, uint8 (H, W, C), each in the size that the data have by default.

    The test images are looked through first: only where one is missing the training and validation images are too.

    Args:
        data: as of `load`.
        names: as of `text.image_names`.
        options: as of `load`.

    Returns:
        Name to image, of those that are there.

    Raises:
        InputError: as `load`.
    """
    found: dict[str, np.ndarray] = {}
    for splits in (["test"], ["train", "test"]):
        loaded = load(data, cache_bytes=0, splits=splits, options=options)
        for part in ("train", "val", "test"):
            split = getattr(loaded, part)
            for at, name in enumerate(image_names(part, split.files, len(split)) if split else ()):
                if name in names and name not in found:
                    found[name] = split.images[at]
        if len(found) == len(set(names)):
            break
    return found
