"""Holding out a part of the training set, to choose by it what the test set shall judge."""

from dataclasses import replace

import numpy as np

from car_ext.datasets.duplicates import shared
from car_ext.datasets.notes import tell, unmeasured
from car_ext.datasets.split import LongTailedData
from car_ext.errors import InputError


def hold_out(data: LongTailedData, share: float) -> LongTailedData:
    """The same classes, with a part of the training images in place of the test images, which are left alone.

    How many of a class says `held_out_counts`; which ones is a fixed random choice, the same on every machine. Classes
    without a held-out image, and held-out images that are among the others too, are told and stand in `notes`.

    Raises:
        InputError: a share outside (0, 1), or no class with two images.
    """
    if not 0 < share < 1:
        raise InputError(f"share is {share}: give the part of the training images to hold out, such as 0.2")
    targets, random = data.train.targets, np.random.RandomState(0)
    orders = [random.permutation(np.flatnonzero(targets == label)) for label in range(data.num_classes)]
    sizes = held_out_counts(data.class_counts, share)
    held = np.sort(np.concatenate([order[:size] for order, size in zip(orders, sizes, strict=True)]))
    if not held.size:
        raise InputError(f"data {data.name!r} has one training image a class, so none can be held out")
    kept = np.setdiff1d(np.arange(len(targets)), held)
    name = f"{data.name}, scored on {share:.3g} of its training images"
    part = replace(data, name=name, train=data.train.take(kept), test=data.train.take(held))
    notes = [*unmeasured(part.class_names, part.test.targets, name), *shared(part, part)]
    for note in notes:
        tell(note)
    return replace(part, notes=(*data.notes, *notes))


def held_out_counts(class_counts: np.ndarray, share: float) -> np.ndarray:
    """How many images of each class are held out: round(share * n), but at least 1 and at most n - 1.

    A class of one image keeps it, and has none to be scored on.

    Args:
        class_counts: (K,) training images of each class, int64.
        share: in (0, 1).

    Returns:
        (K,) int64.
    """
    return np.minimum(np.maximum(np.round(share * class_counts).astype(np.int64), 1), class_counts - 1)
