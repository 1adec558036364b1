"""Training images in folds, in which images that belong together stay together."""

import warnings

import numpy as np

FOLDS = 5
UNMEASURED = -1  # fold of an image whose class has one group: it is always trained on


def deal(targets: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """The fold of every image, by scikit-learn's StratifiedGroupKFold.

    Args:
        targets: (N,) labels.
        groups: (N,) numbers; images of one never come into two folds.
        seed: of the deal.

    Returns:
        (N,) int64: 0 .. F-1, F at most `FOLDS`, or `UNMEASURED` for all images of a class that has a single group, and
        for those that are in a group with one: no fold could learn such a class without the images it is measured on.
        All are unmeasured where there are not two groups to measure.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import

    fold = np.full(len(targets), UNMEASURED, np.int64)
    pairs = np.unique(np.stack([targets, groups], axis=1), axis=0)
    lone = np.bincount(pairs[:, 0]) == 1
    held = np.isin(groups, groups[lone[targets]])
    free = np.flatnonzero(~held)
    count = min(FOLDS, len(np.unique(groups[free])))
    if count < 2:
        return fold
    dealer = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds
        for number, (_, test) in enumerate(dealer.split(free, targets[free], groups[free])):
            fold[free[test]] = number
    _keep_each_class(fold, targets)
    return fold


def _keep_each_class(fold: np.ndarray, targets: np.ndarray) -> None:
    """No fold may hold all images of a class: where one does, they are not measured."""
    for label in np.unique(targets):
        own = np.unique(fold[targets == label])
        if len(own) == 1 and own[0] != UNMEASURED:
            fold[targets == label] = UNMEASURED
