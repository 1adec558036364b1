"""What a candidate is chosen for, and how well it does on images that it has not learnt from."""

import re
from dataclasses import dataclass

import numpy as np

from car_ext.errors import InputError
from car_ext.methods.offsets import shrunken
from car_ext.values import convert

WORDS = ("worst10", "worst", "balanced")
DRAWS = 200  # of the bootstrap


@dataclass(frozen=True)
class Goal:
    """A target of the choice.

    Attributes:
        word: worst10 (the mean of the worst tenth of the classes), worst or balanced.
        least_overall: accuracy over all images below which a candidate loses; 0 without such a floor.
    """

    word: str = WORDS[0]
    least_overall: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Goal":
        """Of `worst10`, `worst`, `balanced`, or `overall>=0.8`: the worst tenth of those that reach it.

        Raises:
            InputError: another word.
        """
        if match := re.fullmatch(r"overall\s*>=\s*(\S+)", text):
            least = convert(match[1], float, "--target")
            if 0 < least <= 1:
                return cls(WORDS[0], least)
        if text not in WORDS:
            raise InputError(f"--target is {text!r}, but must be one of {', '.join(WORDS)}, or overall>=0.8.")
        return cls(text)

    def of(self, accuracies: np.ndarray) -> np.ndarray:
        """The score (...,) of class accuracies (..., K), of classes that are measured alone."""
        falling = np.sort(accuracies, axis=-1)
        tail = {"worst": 1, "worst10": -(-falling.shape[-1] // 10), "balanced": falling.shape[-1]}[self.word]
        return falling[..., :tail].mean(axis=-1)


@dataclass(frozen=True)
class Measured:
    """Predictions of training images by heads that have not seen them.

    Attributes:
        right: (K,) recognised images of each class.
        images: (K,) measured images; 0 of a class that no fold can measure.
        draws: (`DRAWS`, K) recognised images where groups are drawn anew.
    """

    right: np.ndarray
    images: np.ndarray
    draws: np.ndarray

    @classmethod
    def of(cls, correct: np.ndarray, targets: np.ndarray, num_classes: int, resampling: "Resampling") -> "Measured":
        """Of (N,) bool and labels."""
        right = np.bincount(targets[correct], minlength=num_classes)
        return cls(right, np.bincount(targets, minlength=num_classes), resampling.right(correct))

    @property
    def accuracies(self) -> np.ndarray:
        """(K,) float64 without shrinkage, NaN where a class is not measured."""
        return np.where(self.images > 0, self.right / np.maximum(self.images, 1), np.nan)

    @property
    def overall(self) -> float:
        return float(self.right.sum() / max(self.images.sum(), 1))

    def score(self, goal: Goal) -> float:
        """Of shrunken accuracies; below every other where the floor of the goal is missed."""
        seen = self.images > 0
        value = float(goal.of(shrunken(self.right, self.images)[seen]))
        return value if self.overall >= goal.least_overall else value - 1

    def drawn_scores(self, goal: Goal) -> np.ndarray:
        """(`DRAWS`,) as `score`, without its floor."""
        seen = self.images > 0
        return goal.of(np.stack([shrunken(row, self.images)[seen] for row in self.draws]))


class Resampling:
    """Images of each class drawn anew with replacement, in whole groups; the same draws for every candidate.

    A class's draw is weighed to its number of images, so that it is its accuracy that varies.

    Args:
        targets: (N,) labels.
        groups: (N,) numbers.
        num_classes: K.
        seed: of the draws.
    """

    def __init__(self, targets: np.ndarray, groups: np.ndarray, num_classes: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        cells, self._cell = np.unique(np.stack([targets, groups], axis=1), axis=0, return_inverse=True)
        self._cell = self._cell.reshape(-1)
        self._label, sizes = cells[:, 0], np.bincount(self._cell)
        weights = np.zeros((DRAWS, len(cells)), np.float32)
        images = np.bincount(targets, minlength=num_classes)
        self._starts = np.flatnonzero(np.diff(self._label, prepend=-1))
        for own in np.split(np.arange(len(cells)), self._starts[1:]):
            label = self._label[own[0]]
            times = random.multinomial(len(own), np.full(len(own), 1 / len(own)), size=DRAWS)
            drawn = np.maximum(times @ sizes[own], 1)
            weights[:, own] = times * (images[label] / drawn)[:, None]
        self._weights, self._classes = weights, num_classes

    def right(self, correct: np.ndarray) -> np.ndarray:
        """(`DRAWS`, K) weighted sums of (N,) bool."""
        hits = np.bincount(self._cell, correct, len(self._label)) * self._weights
        sums = np.zeros((DRAWS, self._classes))
        sums[:, self._label[self._starts]] = np.add.reduceat(hits, self._starts, axis=1)
        return sums
