"""Which images of a split are set aside, class by class or group by group."""

import re
import warnings
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from car_ext.datasets.split import Split
from car_ext.errors import InputError

MOST_FOLDS = 20  # that groups are dealt into
MOST_PAIRS = 1 << 27  # of a group and a class: 1 GB, and a minute or so


def by_class(targets: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """The positions of each class, rising, in one pass over all: classes may be many.

    Args:
        targets: (N,) labels in 0 .. K-1.
        num_classes: K.

    Returns:
        K arrays of int64, which may be shuffled in place.
    """
    ends = np.cumsum(np.bincount(targets, minlength=num_classes))
    return np.split(np.argsort(targets, kind="stable"), ends[:-1])


def drawn(targets: np.ndarray, num_classes: int, share: float, seed: int = 0) -> np.ndarray:
    """A share of the images of each class, as many as `drawn_counts` says, in a fixed random choice.

    Args:
        targets: (N,) labels in 0 .. K-1.
        num_classes: K.
        share: in (0, 1).
        seed: of the choice, which is the same on every machine.

    Returns:
        Their positions, rising int64.
    """
    random = np.random.RandomState(seed)  # whose stream NumPy promises never to change
    orders = [random.permutation(positions) for positions in by_class(targets, num_classes)]
    sizes = drawn_counts(np.bincount(targets, minlength=num_classes), share)
    return np.sort(np.concatenate([order[:size] for order, size in zip(orders, sizes, strict=True)]))


def drawn_counts(class_counts: np.ndarray, share: float) -> np.ndarray:
    """How many images of each class are set aside: round(share * n), but at least 1 and at most n - 1.

    A class of one image keeps it; so does one without any.

    Args:
        class_counts: (K,) images of each class, int64.
        share: in (0, 1).

    Returns:
        (K,) int64.
    """
    return np.clip(np.round(share * class_counts).astype(np.int64), 1, np.maximum(class_counts - 1, 0))


def drawn_groups(targets: np.ndarray, groups: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """About a share of the images of each class, in whole groups; every class keeps a group.

    The groups are dealt into folds (`dealt`), and as many of these are taken as come nearest to the share.

    Args:
        targets: (N,) labels.
        groups: (N,) the groups' numbers.
        share: in (0, 1).
        seed: of the deal.

    Returns:
        The positions of the images, rising int64.

    Raises:
        InputError: as of `dealt`.
    """
    fold = max(Fraction(share).limit_denominator(MOST_FOLDS), Fraction(1, MOST_FOLDS))
    fold = min(fold, Fraction(MOST_FOLDS - 1, MOST_FOLDS))
    folds = dealt(targets, groups, fold.denominator, seed)
    if not folds:
        return np.empty(0, np.int64)
    taken = np.concatenate(folds[: max(1, round(share * len(folds)))])
    held = np.zeros(len(targets), bool)
    held[taken] = True
    groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    of_group = by_class(groups, int(groups.max()) + 1)
    # A class all of whose groups were taken gets the first of them back.
    for positions in by_class(targets, int(targets.max()) + 1):
        if positions.size and held[positions].all():
            held[of_group[groups[positions].min()]] = False
    return np.flatnonzero(held)


def dealt(targets: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """Images in folds, in whole groups, by scikit-learn's StratifiedGroupKFold.

    Left out are all groups of a class that has but one, which no fold could do without.

    Args:
        targets: (N,) labels.
        groups: (N,) the groups' numbers.
        folds: at most so many, and no more than there are groups, or images of the largest class.
        seed: of the deal.

    Returns:
        The positions of each fold's images; none where there are not two folds.

    Raises:
        InputError: groups times classes are too many for scikit-learn, which counts each pair of them.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, and seldom needed

    groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    number, num_classes = int(groups.max(initial=-1)) + 1, int(targets.max(initial=-1)) + 1
    if number * num_classes > MOST_PAIRS:
        raise InputError(
            f"--groups has {number:,} groups of {num_classes:,} classes, whose table of counts is too large to deal "
            "them out: deal them out yourself, in the column split of a .csv list"
        )
    classes, of_class = np.divmod(np.unique(targets * number + groups), max(number, 1))  # each group of each class
    kept = of_class[np.bincount(classes, minlength=num_classes)[classes] == 1]
    free = np.flatnonzero(~np.isin(groups, kept))
    folds = min(folds, len(np.unique(groups[free])), int(np.bincount(targets[free], minlength=1).max()))
    if folds < 2:
        return []
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than folds, which are many here
        return [free[test] for _, test in dealer.split(free, targets[free], groups[free])]


def group_numbers(split: Split, groups: str) -> np.ndarray:
    """The group of each image: of the column that a list has, or what a regular expression finds in the file's name.

    Args:
        split: N images.
        groups: the column or the expression, whose first parenthesis, or whole match, is the group.

    Returns:
        (N,) int64, numbered by the sorted names of the groups.

    Raises:
        InputError: the data name no files, the expression is none, or finds nothing in a name.
    """
    names: Sequence[str] = split.groups
    if not names:
        if not split.files:
            raise InputError(
                f"--groups is {groups!r}, but these data have no files whose names could tell: leave it out"
            )
        names = [_group(file, groups) for file in split.files]
    if not all(names):
        at = next(index for index, name in enumerate(names) if not name)
        raise InputError(f"--groups {groups}: image {split.files[at]!r} has no group there: fill the column in")
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _group(file: str, expression: str) -> str:
    try:
        found = re.search(expression, file)
    except re.error as error:
        raise InputError(f"--groups {expression!r} is no regular expression ({error}): correct it") from None
    if found is None:
        raise InputError(
            f"--groups {expression!r} finds nothing in {file!r}: give the column of a .csv file, or a regular "
            "expression that matches every path"
        )
    return (found[1] if found.re.groups else found[0]) or ""
