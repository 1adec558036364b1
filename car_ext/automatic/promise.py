"""What the test images will say, told from the training images before they are looked at."""

from typing import NamedTuple

import numpy as np

from car_ext.automatic.goal import Goal, Measured
from car_ext.methods.offsets import shrunken

DRAWS = 2000
STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Interval(NamedTuple):
    """Of a score, or of the difference of two: the middle and the 95 % between, as fractions."""

    middle: float
    low: float
    high: float


def promise(measured: Measured, test_images: np.ndarray, goal: Goal, seed: int = 0) -> Interval:
    """The score of so many test images, over what is not known of the classes and over the chance of the images.

    Class accuracies are drawn from their Beta posteriors, of a prior about the mean of all whose weight is the most
    likely of a few (empirical Bayes), and test images from these. The lowest of several estimates is lower than the
    lowest of what they estimate, also on the test images: so it is their score that is promised, not that of the
    classes.

    Args:
        measured: on the training images.
        test_images: (K,) of each class; classes without, or that are not measured, are left out.
        goal: the score.
        seed: of the draws.
    """
    both = (measured.images > 0) & (test_images > 0)
    if not both.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    right, images = measured.right[both].astype(float), measured.images[both].astype(float)
    random = np.random.default_rng(seed)
    mean = float(np.clip(np.mean(right / images), 0.01, 0.99))
    strength = max(STRENGTHS, key=lambda weight: _likelihood(right, images, mean, weight))
    first = strength * mean + right
    accuracies = random.beta(first, strength + images - first, size=(DRAWS, len(right)))
    drawn = random.binomial(test_images[both], accuracies) / test_images[both]
    low, middle, high = np.quantile(goal.of(drawn), [0.025, 0.5, 0.975])
    return Interval(float(middle), float(low), float(high))


def _likelihood(right: np.ndarray, images: np.ndarray, mean: float, strength: float) -> float:
    """Of a beta-binomial, up to a constant."""
    from scipy.special import betaln  # slow to import

    first, second = strength * mean, strength * (1 - mean)
    return float((betaln(first + right, second + images - right) - betaln(first, second)).sum())


def gained(chosen: Measured, without: Measured, goal: Goal) -> Interval:
    """The difference of two scores on the same folds, of shrunken accuracies, with 95 % over images drawn anew."""
    seen = chosen.images > 0
    point = [float(goal.of(shrunken(one.right, one.images)[seen])) for one in (chosen, without)]
    differences = chosen.drawn_scores(goal) - without.drawn_scores(goal)
    centre = point[0] - point[1]
    low, high = np.quantile(differences - differences.mean(), [0.025, 0.975])
    return Interval(centre, centre + float(low), centre + float(high))
