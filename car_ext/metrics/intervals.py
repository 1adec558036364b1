"""Confidence intervals: how far the accuracies of a finite test set can be trusted."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from car_ext.errors import InputError
from car_ext.metrics.confusions import Confusion, Confusions

LEVEL = 0.95
DRAWN_EACH = 2000  # classes whose accuracies are drawn one by one in no noticeable time
SELECTION_BIAS = (
    "The worst class is picked on these images, the unluckiest among close ones, and again in every draw, so its "
    "interval lies too low for the lowest true accuracy."
)


def wilson_interval(
    correct: np.ndarray | int, total: np.ndarray | int, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence interval of an accuracy, element by element.

    With a = correct / total, n = total and z the (1 + level) / 2 quantile of the normal distribution:

        (a + z^2 / 2n -+ z sqrt(a (1 - a) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927.

    Args:
        correct: (...) whole numbers in 0 .. total; the diagonal of a confusion matrix for every class at once.
        total: (...) whole numbers.
        level: coverage, in (0, 1).

    Returns:
        (low, high), float64 fractions of that shape; NaN where total is 0.

    Raises:
        InputError: a level outside (0, 1), or correct outside 0 .. total.
    """
    _check_level(level)
    correct, total = np.asarray(correct), np.asarray(total)
    if ((correct < 0) | (correct > total)).any():
        raise InputError(f"correct is {correct} of total {total}: give counts with 0 <= correct <= total")
    square = NormalDist().inv_cdf((1 + level) / 2) ** 2
    images = np.where(total > 0, total, np.nan)
    middle = correct + square / 2
    half = np.sqrt(square * (correct * (1 - correct / images) + square / 4))
    low, high = (middle - half) / (images + square), (middle + half) / (images + square)
    return np.maximum(low, 0.0), np.minimum(high, 1.0)


def worst_class_interval(
    confusion: Confusion, level: float = LEVEL, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Equal-tailed interval of the lowest true accuracy of the classes, a posterior under Jeffreys' prior.

    Each draw takes every class's accuracy from Beta(correct + 1/2, wrong + 1/2) and takes the lowest. A bootstrap
    would not do: its binomial draws cannot leave 0 where no image was right. Where none or all of the worst class are
    right, the interval reaches to 0 or 1. The minimum picks the class that was unluckiest on this test set, and again
    in every draw, so the interval lies too low for the lowest true accuracy, the more so the more classes are
    close to the worst and the fewer images they have.

    Source: Brown, Cai and DasGupta, Interval Estimation for a Binomial Proportion, Statistical Science 2001, for one
    class.

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
        level: coverage, in (0, 1).
        draws: how many.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        (low, high) as fractions; None when no class has an image.

    Raises:
        InputError: a level outside (0, 1), or fewer than 1 draws.
    """
    _check_level(level)
    if draws < 1:
        raise InputError(f"draws is {draws}: draw at least 1, better 1000")
    random = np.random.default_rng(seed)
    confusion = Confusions.of(confusion)
    images = confusion.images
    if not images.any():
        return None
    tested = images > 0
    correct, images = confusion.right[tested], images[tested]
    worst = _lowest_draws(correct, images, draws, random)
    low, high = np.quantile(worst, [(1 - level) / 2, (1 + level) / 2])
    return float(low) if correct.all() else 0.0, float(high) if (correct < images).any() else 1.0


def _lowest_draws(correct: np.ndarray, images: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """(draws,) the lowest of a draw from each of the classes' posteriors; (K,) right images and all.

    Of more than `DRAWN_EACH` classes those with the same counts are drawn together: the lowest of m draws from a
    distribution with the quantiles F^-1 is F^-1(1 - (1 - u)^(1 / m)), u uniform.
    """
    worst = np.ones(draws)
    if correct.size <= DRAWN_EACH:
        for right, total in zip(correct, images, strict=True):
            np.minimum(worst, random.beta(right + 0.5, total - right + 0.5, draws), out=worst)
        return worst
    from scipy.special import betaincinv

    alike, classes = np.unique(np.stack([correct, images]), axis=1, return_counts=True)
    for right, total, several in zip(*alike, classes, strict=True):
        lowest = -np.expm1(np.log1p(-random.random(draws)) / several)
        np.minimum(worst, betaincinv(right + 0.5, total - right + 0.5, lowest), out=worst)
    return worst


def accuracy_intervals(confusion: Confusion, class_names: Sequence[str]) -> dict[str, Any]:
    """95 % intervals of the accuracies of one split as [low, high], ready for JSON: None where undefined.

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
        class_names: K names.

    Returns:
        {"level", "overall_accuracy": Wilson's, "per_class_accuracy": class name to Wilson's, "worst_class_accuracy":
        `worst_class_interval`, "note": on the bias of the last}.
    """
    confusion = Confusions.of(confusion)
    correct, images = confusion.right, confusion.images
    overall = wilson_interval(correct.sum(), images.sum())
    per_class = zip(*wilson_interval(correct, images), strict=True)
    return {
        "level": LEVEL,
        "overall_accuracy": _bounds(*overall),
        "per_class_accuracy": {name: _bounds(*pair) for name, pair in zip(class_names, per_class, strict=True)},
        "worst_class_accuracy": _bounds(*(worst_class_interval(confusion) or (np.nan, np.nan))),
        "note": SELECTION_BIAS,
    }


def _bounds(low: float | np.ndarray, high: float | np.ndarray) -> list[float] | None:
    return None if np.isnan(low) else [float(low), float(high)]


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level is {level}: give a coverage between 0 and 1, such as 0.95")
