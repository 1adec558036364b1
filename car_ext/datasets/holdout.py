"""Holding out a part of the training set, to choose by it what the test set shall judge."""

from dataclasses import replace

import numpy as np

from car_ext.datasets.split import Images, LongTailedData, Split
from car_ext.errors import InputError


class ChosenImages:
    """Some of a split's images, which are read only when asked for.

    Args:
        images: all of them.
        indices: which, in this order.
    """

    def __init__(self, images: Images, indices: np.ndarray):
        self.images, self.indices = images, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index` of the chosen ones, (H, W, C) uint8."""
        return self.images[int(self.indices[index])]


def hold_out(data: LongTailedData, share: float) -> LongTailedData:
    """The same classes, with a part of the training images in place of the test images, which are left alone.

    Of the n training images of a class, round(share * n) are held out, but at least 1 and at most n - 1; a class of
    one image keeps it, and has none to be scored on. Which ones is a fixed random choice, the same on every machine.

    Raises:
        InputError: a share outside (0, 1), or no class with two images.
    """
    if not 0 < share < 1:
        raise InputError(f"share is {share}: give the part of the training images to hold out, such as 0.2")
    targets, random = data.train.targets, np.random.RandomState(0)
    orders = [random.permutation(np.flatnonzero(targets == label)) for label in range(data.num_classes)]
    sizes = [min(max(round(share * len(order)), 1), len(order) - 1) for order in orders]
    held = np.sort(np.concatenate([order[:size] for order, size in zip(orders, sizes, strict=True)]))
    if not held.size:
        raise InputError(f"data {data.name!r} has one training image a class, so none can be held out")
    kept = np.setdiff1d(np.arange(len(targets)), held)
    name = f"{data.name}, scored on {share:.3g} of its training images"
    return replace(data, name=name, train=_part(data.train, kept), test=_part(data.train, held))


def _part(split: Split, indices: np.ndarray) -> Split:
    array = isinstance(split.images, np.ndarray)
    return Split(split.images[indices] if array else ChosenImages(split.images, indices), split.targets[indices])
