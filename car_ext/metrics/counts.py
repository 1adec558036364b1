"""Predictions counted, and what scores are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from car_ext.errors import InputError
from car_ext.metrics.confusions import Confusion, Confusions
from car_ext.priors import PerClass, check_class_counts, shot_groups


def confusion_counts(predictions: np.ndarray, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts how often each class was predicted for each true class, as a matrix.

    Of many classes `Confusions.count` holds only what occurs, and every function takes that as well.

    Args:
        predictions: (N,) whole numbers in 0 .. K-1.
        targets: (N,) whole numbers in 0 .. K-1.
        num_classes: K.

    Returns:
        (K, K) int64; row = predicted, column = true. Batches add up.

    Raises:
        InputError: different lengths, a label outside 0 .. K-1, or more classes than a matrix is written out for.
    """
    return Confusions.count(predictions, targets, num_classes).dense()


def class_accuracies(confusion: Confusion) -> np.ndarray:
    """Accuracy of each class: (K, K) counts to (K,) float64 fractions, NaN for a class without images."""
    confusion = Confusions.of(confusion)
    return ratio(confusion.right, confusion.images)


def worst_accuracy(confusion: Confusion) -> float | None:
    """The lowest class accuracy of (K, K) counts, as a fraction; None when they hold no image."""
    return lowest(class_accuracies(confusion))


def worst_first(values: ArrayLike, class_counts: ArrayLike, class_names: Sequence[str]) -> list[int]:
    """The labels of the classes whose value is defined, the lowest first.

    Among equals the class of the fewest training images goes first, then by name: whoever names a worst class asks
    here, so that all name the same.

    Args:
        values: (K,) accuracies, NaN where undefined.
        class_counts: (K,) training images a class.
        class_names: K names.
    """
    every = [*zip(np.asarray(values, np.float64).tolist(), np.asarray(class_counts).tolist(), class_names, strict=True)]
    defined = [label for label, (value, *_) in enumerate(every) if value == value]  # NaN is not itself
    return sorted(defined, key=every.__getitem__)


@dataclass(frozen=True)
class Counts:
    """One model on one test set: what every score is a function of.

    Attributes:
        confusion: the counts.
        class_counts: (K,) int64 training images a class.
        train_worst_class_accuracy: on the training images without augmentation, if known.
    """

    confusion: Confusions
    class_counts: np.ndarray
    train_worst_class_accuracy: float | None = None

    @classmethod
    def of(
        cls,
        confusion: Confusion,
        class_counts: PerClass,
        class_names: Sequence[str] | None = None,
        train_worst_class_accuracy: float | None = None,
    ) -> "Counts":
        """Checked.

        Raises:
            InputError: bad class_counts, or numbers of classes that disagree.
        """
        counts = check_class_counts(class_counts, class_names)
        confusion = Confusions.of(confusion)
        if confusion.shape != (counts.size, counts.size):
            raise InputError(
                f"confusion has shape {confusion.shape} for {counts.size} classes: count with the same class names"
            )
        return cls(confusion, counts, train_worst_class_accuracy)

    @cached_property
    def right(self) -> np.ndarray:
        """(K,) recognised test images of each class."""
        return self.confusion.right

    @cached_property
    def predicted(self) -> np.ndarray:
        """(K,) test images that are taken for each class."""
        return self.confusion.taken

    @cached_property
    def images(self) -> np.ndarray:
        """(K,) test images of each class."""
        return self.confusion.images

    @cached_property
    def accuracies(self) -> np.ndarray:
        """(K,) of each class; NaN for a class without images."""
        return ratio(self.right, self.images)

    @cached_property
    def rising(self) -> np.ndarray:
        """The accuracies of the classes that have test images, worst first."""
        return np.sort(self.accuracies[~np.isnan(self.accuracies)])

    @cached_property
    def shot_groups(self) -> dict[str, np.ndarray]:
        """Masks (K,) of the many-, medium- and few-shot classes."""
        return shot_groups(self.class_counts)

    @cached_property
    def rarest_first(self) -> np.ndarray:
        """Labels by rising count; among equals the higher label, which is the tail of a long-tailed profile."""
        return np.lexsort((-np.arange(self.class_counts.size), self.class_counts))


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """Element by element, NaN where the denominator is 0."""
    denominator = np.asarray(denominator)
    return np.asarray(numerator) / np.where(denominator > 0, denominator, np.nan)


def number(value: float | np.ndarray) -> float | None:
    """A float for JSON; None for NaN."""
    return None if np.isnan(value) else float(value)


def mean(values: np.ndarray) -> float | None:
    """Of the values that are defined, None where none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def lowest(values: np.ndarray) -> float | None:
    """Of the values that are defined, None where none is."""
    defined = values[~np.isnan(values)]
    return float(defined.min()) if defined.size else None


def by_name(values: np.ndarray, class_names: Sequence[str]) -> dict[str, float | None]:
    """(K,) values as class name to value, ready for JSON: None for NaN."""
    return {name: number(value) for name, value in zip(class_names, values, strict=True)}
