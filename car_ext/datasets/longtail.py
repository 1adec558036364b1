"""Cutting a training set down to an exponential long-tailed profile."""

import math
from collections.abc import Sequence

import numpy as np

from car_ext.errors import InputError
from car_ext.priors import exponential_profile


def imbalance(targets: np.ndarray, class_names: Sequence[str], imbalance_ratio: float | None) -> np.ndarray:
    """Which samples to keep so that the class counts fall exponentially.

    The profile starts from the largest class and runs over the classes by falling count, ties in label order:
    label order for a balanced set, as CIFAR10-LT has it, and the existing order for one that is already
    long-tailed. Each class keeps its first samples.

    Args:
        targets: (N,) int64 labels.
        class_names: K names, for the error messages.
        imbalance_ratio: largest over smallest class count, at least 1; None keeps every sample.

    Returns:
        (M,) int64 positions into targets, rising.

    Raises:
        InputError: an imbalance_ratio below 1 or not finite, one that needs more images of a class than there
            are, or one that leaves a class without any.
    """
    if imbalance_ratio is None:
        return np.arange(len(targets))
    available = np.bincount(targets, minlength=len(class_names))
    order = np.argsort(-available, kind="stable")
    needed = np.empty_like(available)
    needed[order] = exponential_profile(int(available.max()), len(class_names), imbalance_ratio)
    if (needed > available).any():
        label = int(np.argmax(needed / np.maximum(available, 1)))
        raise InputError(
            f"class {class_names[label]!r} has {available[label]} training images but imbalance "
            f"ratio {imbalance_ratio:g} needs {needed[label]}; {_advice(available[order])}"
        )
    if not needed.all():
        emptied = class_names[needed.argmin()]
        raise InputError(
            f"imbalance ratio {imbalance_ratio:g} leaves class {emptied!r} without training "
            f"images; use a smaller one (the largest class has {available.max()})"
        )
    kept = [np.flatnonzero(targets == label)[:count] for label, count in enumerate(needed)]
    return np.sort(np.concatenate(kept))


def _advice(falling: np.ndarray) -> str:
    """The smallest ratio, in hundredths, whose profile fits under the falling class counts."""
    max_count, last = int(falling[0]), len(falling) - 1
    # int(max_count * ratio ** (-c / last)) <= n_c holds just above the bound; its logarithm cannot overflow.
    bound = max(last / c * math.log(max_count / (falling[c] + 1)) for c in range(1, last + 1))
    if bound >= math.log(max_count):
        return "no imbalance ratio fits these files: leave it out to use them as they are"
    smallest = max(1, math.floor(math.exp(bound) * 100 + 1 + 1e-9) / 100)
    return f"the smallest ratio these files allow is {smallest:.10g}"
