"""What one model got right, image by image where that is known, for another to be compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from car_ext.evaluation.significance import Paired, Unpaired
from car_ext.metrics.predictions import Predictions
from car_ext.text import nfc


@dataclass(frozen=True)
class Outcome:
    """One model on its test images.

    Attributes:
        summary: as of `evaluate_all`.
        targets: (N,) int64, labels by the order of `class_names`; None where only the summary is left.
        correct: (N,) bool, or None as well.
        files: N names of the images, or ().
    """

    summary: Mapping[str, Any]
    targets: np.ndarray | None = None
    correct: np.ndarray | None = None
    files: tuple[str, ...] = ()

    @classmethod
    def of(cls, summary: Mapping[str, Any], predictions: Predictions) -> "Outcome":
        """Of an evaluation."""
        return cls(summary, predictions.targets, predictions.correct, predictions.files)

    @property
    def class_names(self) -> list[str]:
        return [*map(nfc, self.summary["class_counts"])]

    @property
    def class_counts(self) -> np.ndarray:
        """(K,) int64 training images a class."""
        return np.array([*self.summary["class_counts"].values()], np.int64)

    @property
    def images(self) -> dict[str, int]:
        """Test images a class."""
        return {nfc(name): images for name, images in self.summary["test_counts"].items()}

    @property
    def right(self) -> dict[str, int]:
        """Those of them that were right."""
        accuracies = {nfc(name): value for name, value in self.summary["per_class_accuracy"].items()}
        return {name: round((accuracies.get(name) or 0.0) * images) for name, images in self.images.items()}


def compared(first: Outcome, later: Outcome) -> tuple[list[str], Paired | Unpaired]:
    """Two outcomes side by side: the names of all their classes, and their counts in that order.

    They are paired where both say what they got right on the same images: those of the same file names, whatever
    their order, or, where none are named, of the same labels in the same order.
    """
    names = [*dict.fromkeys(first.class_names + later.class_names)]
    order = _order(first, later)
    if order is None or first.correct is None or later.correct is None or later.targets is None:
        counts = ((outcome.right, outcome.images) for outcome in (first, later))
        return names, Unpaired(*(np.array([of.get(name, 0) for name in names]) for pair in counts for of in pair))
    before, after = first.correct[order], later.correct
    labels = places(later.class_names, names)[later.targets]
    both, lost, won, images = (
        np.bincount(labels, chosen, len(names)).astype(np.int64)
        for chosen in (before & after, before & ~after, after & ~before, None)
    )
    return names, Paired(both, lost, won, images)


def places(names: Sequence[str], among: Sequence[str]) -> np.ndarray:
    """Where each of some names stands among others that hold it, (len(names),) int64."""
    known = {name: place for place, name in enumerate(among)}
    return np.array([known[name] for name in names], np.int64)


def _order(first: Outcome, later: Outcome) -> np.ndarray | None:
    """Where the later outcome's images stand in the first's, (N,); None where they are others, or nobody knows."""
    if first.targets is None or later.targets is None or len(first.targets) != len(later.targets):
        return None
    order = np.arange(len(later.targets))
    if first.files and later.files and first.files != later.files:
        known = {file: position for position, file in enumerate(first.files)}
        if known.keys() != set(later.files) or len(known) != len(later.files):
            return None
        order = np.array([known[file] for file in later.files])
    names = [np.array(outcome.class_names)[outcome.targets] for outcome in (first, later)]
    return order if (names[0][order] == names[1]).all() else None
