"""Long-tailed profiles: how class counts fall."""

from collections.abc import Callable

import numpy as np

from car_ext.errors import InputError


def exponential_profile(max_count: int, num_classes: int, imbalance_ratio: float) -> np.ndarray:
    """Exponentially falling class counts, as in CIFAR10-LT and CIFAR100-LT.

    n_c = int(max_count * (1 / imbalance_ratio) ** (c / (K - 1))) for c = 0 .. K-1; the truncation is done in
    Python's double arithmetic, whose rounding the published class counts depend on.
    Source: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019.

    Args:
        max_count: images of the largest class, class 0.
        num_classes: K, at least 2.
        imbalance_ratio: largest over smallest class count, at least 1.

    Returns:
        (K,) int64, never rising. A tail class can reach 0 where imbalance_ratio is about max_count or above.

    Raises:
        InputError: num_classes below 2, max_count below 1, or an imbalance_ratio below 1 or not finite.
    """
    return _profile(max_count, num_classes, imbalance_ratio, lambda c: c / (num_classes - 1))


def step_profile(max_count: int, num_classes: int, imbalance_ratio: float) -> np.ndarray:
    """Class counts in one step: max_count in the first K // 2 classes, int(max_count * (1 / imbalance_ratio)) after.

    Source, arguments and result as of `exponential_profile`.

    Raises:
        InputError: as `exponential_profile`.
    """
    return _profile(max_count, num_classes, imbalance_ratio, lambda c: float(c >= num_classes // 2))


def _profile(max_count: int, num_classes: int, imbalance_ratio: float, exponent: Callable[[int], float]) -> np.ndarray:
    if num_classes < 2:
        raise InputError(f"num_classes is {num_classes}: a long-tailed profile needs at least 2 classes")
    if max_count < 1:
        raise InputError(f"max_count is {max_count}: the largest class needs at least 1 image")
    if not 1 <= imbalance_ratio < float("inf"):
        raise InputError(
            f"imbalance_ratio is {imbalance_ratio}: give a finite number of at least 1 "
            "(largest over smallest class count)"
        )
    fraction = 1 / imbalance_ratio
    return np.array([int(max_count * fraction ** exponent(c)) for c in range(num_classes)], np.int64)
