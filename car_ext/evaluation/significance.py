"""Whether one model is worse than another, or chance has it so: tests on what the two got right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from car_ext.evaluation.verdict import ROUNDING
from car_ext.metrics.counts import Counts, ratio
from car_ext.metrics.vocabulary import Score

DRAWS = 2000


@dataclass(frozen=True)
class Paired:
    """Two models on the same images, counted by class: (K,) whole numbers each.

    Attributes:
        both: right in both.
        lost: right in the first only.
        won: right in the later only.
        images: all.
    """

    both: np.ndarray
    lost: np.ndarray
    won: np.ndarray
    images: np.ndarray

    @property
    def both_images(self) -> tuple[np.ndarray, np.ndarray]:
        """Images of the first model and of the later one, (K,) each."""
        return self.images, self.images

    def p_values(self) -> np.ndarray:
        """For each class, (K,) of `p_value`."""
        return _mcnemar(self.lost, self.won)

    def p_value(self) -> float:
        """One-sided p of a lower accuracy over all images: McNemar's exact test.

            P(X >= lost), X from Binomial(lost + won, 1/2)

        Source: McNemar, Psychometrika 1947; Dietterich, Neural Computation 1998, for classifiers.
        """
        return float(_mcnemar(self.lost.sum(), self.won.sum()))

    def drawn(self, random: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What both have right, (K,) each, were it chance which of them had an image that only one has; forever."""
        changed = self.lost + self.won
        while True:
            first = random.binomial(changed, 0.5)
            yield self.both + first, self.both + changed - first


@dataclass(frozen=True)
class Unpaired:
    """Two models of which it is not known whether they were right on the same images: (K,) whole numbers each.

    Attributes:
        first_right, first_images: of the first model, by class.
        later_right, later_images: of the later one.
    """

    first_right: np.ndarray
    first_images: np.ndarray
    later_right: np.ndarray
    later_images: np.ndarray

    @property
    def both_images(self) -> tuple[np.ndarray, np.ndarray]:
        """Images of the first model and of the later one, (K,) each."""
        return self.first_images, self.later_images

    def p_values(self) -> np.ndarray:
        """For each class, (K,) of `p_value`."""
        from scipy.stats import hypergeom

        images, right = self.first_images + self.later_images, self.first_right + self.later_right
        return hypergeom.cdf(self.later_right, images, right, self.later_images)

    def p_value(self) -> float:
        """One-sided p of a lower accuracy over all images: Fisher's exact test, blind to which images they are."""
        return float(Unpaired(*(count.sum(keepdims=True) for count in vars(self).values())).p_values()[0])

    def drawn(self, random: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What both have right, (K,) each, were it chance which of them had an image; forever."""
        right = self.first_right + self.later_right
        wrong = self.first_images + self.later_images - right
        while True:
            later = random.hypergeometric(right, wrong, self.later_images)
            yield right - later, later


@dataclass(frozen=True)
class Side:
    """One of the two models: where its classes stand in the counts, (K,), and their training images, (K,)."""

    labels: np.ndarray
    class_counts: np.ndarray

    def score(self, score: Score, right: np.ndarray, images: np.ndarray) -> float | None:
        """Its value, of what is right of the images, in the order of the counts."""
        if score.formula is None:
            return None
        return score.formula(_Drawn(right[self.labels], images[self.labels], self.class_counts))


def p_of_fall(score: Score, pair: Paired | Unpaired, sides: Sequence[Side], fall: float, seed: int = 0) -> float:
    """One-sided p of a fall of any score of the classes' accuracies: a permutation test.

    Where the models are alike, it is chance which of the two has the right answer to an image that only one of them
    has. With d of D draws of that chance in which the score falls by at least as much,

        p = (1 + d) / (1 + D)

    For one class, this is McNemar's test. A bootstrap would be too quick to call a fall real where few images
    changed: of three that changed, all for the worse, it says p = 0.045, where the chance is 1 in 8.

    Source: Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989; Phipson and Smyth, 2010, for the 1.

    Args:
        score: a score that has a formula of the accuracies.
        pair: the counts.
        sides: the first model and the later one.
        fall: by how much the score is lower.
        seed: of the draws; the same seed gives the same p.

    Raises:
        AttributeError: the score is no function of the accuracies alone.
    """
    as_low = 0
    for draw, _ in zip(pair.drawn(np.random.default_rng(seed)), range(DRAWS), strict=False):
        was, became = (
            side.score(score, right, images) for side, right, images in zip(sides, draw, pair.both_images, strict=True)
        )
        as_low += was is not None and became is not None and was - became >= fall - ROUNDING
    return (1 + as_low) / (1 + DRAWS)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values (m,) of m tests, adjusted so that one of them is below a level by chance no more often than it says.

    The i-th smallest becomes the largest of (m - j + 1) p_j for j up to i, and 1 at most.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


class _Drawn(Counts):
    """Right images that were drawn, without the confusions that they would be counted from."""

    def __init__(self, right: np.ndarray, images: np.ndarray, class_counts: np.ndarray) -> None:
        known = {"right": right, "images": images, "accuracies": ratio(right, images), "class_counts": class_counts}
        vars(self).update(known)  # where cached_property looks first


def _mcnemar(lost: np.ndarray, won: np.ndarray) -> np.ndarray:
    from scipy.stats import binom

    return binom.sf(lost - 1, lost + won, 0.5)
