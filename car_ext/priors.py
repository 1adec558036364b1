"""Class priors: from training images a class to frequencies, shot groups and long-tailed profiles."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from car_ext.errors import InputError

PerClass: TypeAlias = Sequence[int] | np.ndarray  # (K,) whole numbers, in label order


def check_class_counts(class_counts: PerClass, class_names: Sequence[str] | None = None) -> np.ndarray:
    """Training images a class, checked.

    Args:
        class_counts: (K,) positive whole numbers; floats such as 5.0 are accepted.
        class_names: (K,) names used in the error message; the label where None.

    Returns:
        (K,) int64.

    Raises:
        InputError: fewer than two classes, or a count that is not a positive whole number.
    """
    try:
        counts = np.asarray(class_counts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"class_counts must be a list of whole numbers, not {class_counts!r}") from error
    if counts.ndim != 1 or counts.size < 2:
        raise InputError(f"class_counts has shape {counts.shape}: give one count for each of at least 2 classes")
    if class_names is not None and len(class_names) != counts.size:
        raise InputError(
            f"class_counts has {counts.size} entries for {len(class_names)} class_names: give one count a class"
        )
    wrong = np.flatnonzero(~(np.isfinite(counts) & (counts >= 1) & (counts == np.floor(counts))))
    if wrong.size:
        label = int(wrong[0])
        name = f"{label}" if class_names is None else repr(class_names[label])
        raise InputError(
            f"class {name} has class_counts entry {counts[label]:g}: "
            "every class needs a whole number of training images, at least 1"
        )
    return counts.astype(np.int64)


def relative_frequencies(class_counts: PerClass) -> np.ndarray:
    """Training frequency of each class: (K,) counts to (K,) float64 that sum to 1.

    Raises:
        InputError: as `check_class_counts`.
    """
    counts = check_class_counts(class_counts)
    return counts / counts.sum()


def spectral_weights(class_counts: PerClass, r0: float = 0.2) -> np.ndarray:
    """The diagonal of Lambda, which weighs a class's confusions by its rarity: (m_c + r0)^(-1/2), not normalised.

    m_c is the relative training frequency. Source: arXiv 2603.16732 (CVPR 2026), which uses r0 = 0.2.

    Args:
        class_counts: (K,) positive whole numbers.
        r0: softens the weights, > 0.

    Returns:
        (K,) float64.

    Raises:
        InputError: as `check_class_counts`, or r0 not positive and finite.
    """
    if not 0 < r0 < float("inf"):
        raise InputError(f"r0 is {r0}: give a finite number above 0, such as 0.2")
    return (relative_frequencies(class_counts) + r0) ** -0.5


def effective_number_weights(class_counts: PerClass, beta: float) -> np.ndarray:
    """Class-balanced weights w_c ~ (1 - beta) / (1 - beta ** n_c), scaled to mean 1.

    beta = 0 weighs all classes alike; towards 1 the weights approach inverse frequency.
    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, Eq. 3.

    Args:
        class_counts: (K,) training images of each class.
        beta: in [0, 1).

    Returns:
        (K,) float64 with mean 1.

    Raises:
        InputError: bad class_counts, or a beta outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise InputError(f"beta is {beta}: give a number of at least 0 and below 1")
    weights = 1 / (1 - np.power(float(beta), check_class_counts(class_counts)))
    return weights / weights.mean()


def shot_groups(class_counts: PerClass) -> dict[str, np.ndarray]:
    """Boolean masks (K,) of the classes with many (> 100), medium (20 to 100) and few (< 20) training images.

    Source: Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019.

    Raises:
        InputError: as `check_class_counts`.
    """
    counts = check_class_counts(class_counts)
    many, few = counts > 100, counts < 20
    return {"many": many, "medium": ~many & ~few, "few": few}
