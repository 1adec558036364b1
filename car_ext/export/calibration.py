"""Training images that a format takes the ranges of activations from."""

from dataclasses import dataclass

import numpy as np

from car_ext.errors import InputError
from car_ext.seeds import derive


@dataclass(frozen=True)
class Calibration:
    """Which training images the ranges of activations are taken from.

    Attributes:
        draw: "class-balanced": equally many of every class, as far as it has them, so that rare classes have a say in
            the ranges; "random": as they come, which in a long tail is mostly the head.
        images: how many; all where there are fewer.
        seed: of the draw.
        data, data_root: as for training; the run's own by default.
    """

    draw: str = "class-balanced"
    images: int = 512
    seed: int = 0
    data: str | None = None
    data_root: str | None = None

    def __post_init__(self) -> None:
        if self.draw not in ("class-balanced", "random"):
            raise InputError(f"--calibration is {self.draw!r}: give class-balanced or random.")
        if self.images < 1:
            raise InputError(f"--calibration-images is {self.images}: give at least 1.")

    def chosen(self, targets: np.ndarray) -> np.ndarray:
        """Indices of the images to take, (at most `images`,) int64, none twice; targets (N,) are their labels."""
        order = np.random.default_rng(derive("calibration", self.seed)).permutation(len(targets))
        if self.draw == "class-balanced":
            # The n-th image of every class before the n + 1st of any.
            labels, turns = targets[order], np.empty(len(order), np.int64)
            by_class = np.argsort(labels, kind="stable")
            _, first, size = np.unique(labels[by_class], return_index=True, return_counts=True)
            turns[by_class] = np.arange(len(order)) - np.repeat(first, size)
            order = order[np.argsort(turns, kind="stable")]
        return order[: self.images]
