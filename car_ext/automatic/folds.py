"""Training images in folds, in which images that belong together stay together."""

import numpy as np

from car_ext.datasets.draw import by_class, dealt

FOLDS = 5
UNMEASURED = -1  # fold of an image whose class has one group: it is always trained on


def deal(targets: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """The fold of every image.

    Args:
        targets: (N,) labels.
        groups: (N,) numbers; images of one never come into two folds.
        seed: of the deal.

    Returns:
        (N,) int64: 0 .. F-1, F at most `FOLDS`, or `UNMEASURED` for all images of a class that has a single group, or
        that came into one fold as a whole, and for those that are in a group with one: no fold could learn such a class
        without the images it is measured on. All are unmeasured where there are not two folds.

    Raises:
        InputError: as of `draw.dealt`.
    """
    fold = np.full(len(targets), UNMEASURED, np.int64)
    for number, positions in enumerate(dealt(targets, groups, FOLDS, seed)):
        fold[positions] = number
    for positions in by_class(targets, int(targets.max(initial=-1)) + 1):
        if len(np.unique(fold[positions])) == 1:
            fold[positions] = UNMEASURED
    return fold
