"""Sets of classes that hold the true one as often as was asked, for each class."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from car_ext.errors import InputError
from car_ext.metrics.counts import by_name, number, ratio


class Thresholds(NamedTuple):
    """What a class needs to be in the set of an image.

    Attributes:
        alpha: how often the true class may be missed.
        values: (K,) float64: class c is in the set where 1 - p_c is at most `values[c]`.
        pooled: labels of the classes that have too few images for a threshold of their own.
    """

    alpha: float
    values: np.ndarray
    pooled: list[int]


def fit_thresholds(probabilities: np.ndarray, targets: np.ndarray, alpha: float) -> Thresholds:
    """Thresholds by which the set of an image holds its true class with a probability of at least 1 - alpha.

    That holds for every class, not only on average: with s = 1 - p_y the scores of the n held-out images of a class,
    its threshold is the ceil((n + 1) (1 - alpha))-th smallest. Where there are fewer, the classes that have too few
    share the threshold of their images together, and it holds on average over them; without enough even then, their
    threshold is 1, by which they are in every set. The held-out images must be like those to come, and must not be
    those that the probabilities were trained on.

    Source: Vovk et al., Algorithmic Learning in a Random World, 2005 (label-conditional, or Mondrian); Sadinle et al.,
    JASA 2019, for the score; Ding et al., NeurIPS 2023, for rare classes together.

    Args:
        probabilities: (N, K) floats.
        targets: (N,) whole numbers in 0 .. K-1.
        alpha: in (0, 1).

    Raises:
        InputError: an alpha outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}: give how often the true class may be missed, such as 0.1")
    classes = probabilities.shape[1]
    scores = 1 - probabilities[np.arange(len(targets)), targets]
    by_class = np.split(
        scores[np.argsort(targets, kind="stable")], np.bincount(targets, minlength=classes).cumsum()[:-1]
    )
    own = [_quantile(of_class, alpha) for of_class in by_class]
    pooled = [label for label, value in enumerate(own) if value is None]
    together = _quantile(scores[np.isin(targets, pooled)], alpha)
    shared = 1.0 if together is None else together
    return Thresholds(alpha, np.array([shared if value is None else value for value in own]), pooled)


def prediction_sets(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which classes are in the set of each image, (N, K) bool; the most probable one always is."""
    sets = 1 - probabilities <= thresholds
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


class Coverage:
    """How often the sets hold the true class, and how large they are, batch by batch.

    Args:
        thresholds: (K,) floats.
        alpha: what they were fitted for.
    """

    def __init__(self, thresholds: Sequence[float], alpha: float) -> None:
        self.alpha, self._thresholds = alpha, np.asarray(thresholds, np.float64)
        self._images, self._covered, self._size = np.zeros((3, len(thresholds)), np.int64)

    def update(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """Adds logits (B, K) and targets (B,)."""
        sets = prediction_sets(softmax(logits), self._thresholds)
        classes = len(self._thresholds)
        self._images += np.bincount(targets, minlength=classes)
        self._covered += np.bincount(targets, sets[np.arange(len(sets)), targets], classes).astype(np.int64)
        self._size += np.bincount(targets, sets.sum(axis=1), classes).astype(np.int64)

    def summary(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Ready for JSON: {"alpha", "coverage", "mean_size", "per_class": {name: {"coverage", "size"}}}; None where
        a class has no image."""
        coverage, size = (by_name(ratio(of, self._images), class_names) for of in (self._covered, self._size))
        return {
            "alpha": self.alpha,
            "coverage": number(ratio(self._covered.sum(), self._images.sum())),
            "mean_size": number(ratio(self._size.sum(), self._images.sum())),
            "per_class": {name: {"coverage": coverage[name], "size": size[name]} for name in class_names},
        }


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (N, K) as probabilities, float64."""
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _quantile(scores: np.ndarray, alpha: float) -> float | None:
    """The ceil((n + 1) (1 - alpha))-th smallest of n scores; None where there are fewer."""
    rank = int(np.ceil((len(scores) + 1) * (1 - alpha) - 1e-9))  # 10 * (1 - 0.1) is no more than 9
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else None
