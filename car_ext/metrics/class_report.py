"""Precision, recall and F1 of every class, and their averages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from car_ext.metrics.counts import Counts, number, ratio


@dataclass(frozen=True)
class ClassReport:
    """What scikit-learn's `classification_report` says, from how many images are right, predicted and true.

        precision_k = right_k / predicted_k    recall_k = right_k / true_k    F1_k = 2 right_k / (predicted_k + true_k)

    Attributes:
        right: (K,) images of each class that are recognised, or their share of all images.
        predicted: (K,) images that are taken for each class.
        true: (K,) images of each class.
    """

    right: np.ndarray
    predicted: np.ndarray
    true: np.ndarray

    @classmethod
    def of(cls, counts: Counts) -> "ClassReport":
        """Of one model on one test set."""
        return cls(counts.right, counts.predicted, counts.images)

    @property
    def precision(self) -> np.ndarray:
        """(K,) float64, NaN for a class that is never predicted."""
        return ratio(self.right, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """(K,) float64, the accuracy of each class; NaN for one without images."""
        return ratio(self.right, self.true)

    @property
    def f1(self) -> np.ndarray:
        """(K,) float64, NaN for a class that is never predicted and has no images."""
        return ratio(2 * self.right, self.predicted + self.true)

    def macro(self, measure: str) -> float | None:
        """The mean of "precision", "recall" or "f1" over the classes that have images or are predicted.

        What is undefined counts 0, as in scikit-learn: the recall of a class that is predicted, but has no images, too.
        The balanced accuracy leaves that one out. None without images.
        """
        values = getattr(self, measure)[self.predicted + self.true > 0]
        return float(np.nan_to_num(values).mean()) if values.size else None

    def weighted(self, measure: str) -> float | None:
        """As `macro`, each class weighted by its images. Of the recall it is the overall accuracy."""
        return number(ratio(np.nan_to_num(getattr(self, measure)) @ self.true, self.true.sum()))

    def by_name(self, class_names: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Class name to {"precision", "recall", "f1"}, ready for JSON: None where undefined."""
        rows = zip(class_names, self.precision, self.recall, self.f1, strict=True)
        return {
            name: {"precision": number(precision), "recall": number(recall), "f1": number(f1)}
            for name, precision, recall, f1 in rows
        }
