"""Long-tailed image data: the built-in digits, an image folder, or a .zip of one."""

import difflib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from car_ext.datasets import digits, folder
from car_ext.datasets.cache import cached_bytes, decode_all, default_cache_bytes
from car_ext.datasets.folder import LazyImages
from car_ext.datasets.holdout import hold_out
from car_ext.datasets.split import Images, LongTailedData, Split
from car_ext.errors import InputError

__all__ = ["Images", "LazyImages", "LongTailedData", "Split", "hold_out", "load"]

BUILT_IN = {"digits": digits.load}


def load(
    data: str | Path,
    image_size: int | None = None,
    imbalance_ratio: float | None = None,
    cache_bytes: int | None = None,
    splits: Collection[str] = ("train", "test"),
) -> LongTailedData:
    """Loads a data set.

    Args:
        data: "digits", an image folder, or a .zip of one; the layout is described in `folder.load`.
        image_size: stored height and width in pixels; None: 8 for the digits, and for a folder the shorter
            side of its first training image up to 96, 224 for larger ones.
        imbalance_ratio: largest over smallest class count, cut by `longtail.imbalance`; None: 50 for the
            digits, and a folder as it is.
        cache_bytes: memory the decoded images may take; None is a quarter of what is free. A split that does
            not fit is decoded image by image, with the same pixels.
        splits: the splits worth decoding ahead; the others are listed only, enough for class_counts. Without
            "train", a folder may have none, and its training split is then empty.

    Raises:
        InputError: unknown data, a bad image_size or imbalance_ratio, or unreadable or misplaced files.
    """
    if image_size is not None and not 1 <= image_size <= 4096:
        raise InputError(f"image_size is {image_size}: give pixels from 1 to 4096")
    name, path = str(data), Path(data).expanduser()
    if name in BUILT_IN:
        return BUILT_IN[name](image_size, imbalance_ratio)
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".zip"):
        close = difflib.get_close_matches(name, BUILT_IN, n=1)
        fix = f"did you mean {close[0]!r}?" if close else f"check the path, or give {', '.join(BUILT_IN)}"
        raise InputError(f"data {name!r} is no image folder, .zip file or built-in name: {fix}")
    loaded = folder.load(path, image_size, imbalance_ratio, needs_train="train" in splits)
    budget = default_cache_bytes() if cache_bytes is None else cache_bytes
    for part in splits:
        split = getattr(loaded, part)
        if cached_bytes(split.images) <= budget:
            budget -= cached_bytes(split.images)
            array = decode_all(split.images, f"decoding {part}")
            loaded = replace(loaded, **{part: replace(split, images=array)})
    return loaded
