"""Groups of classes: all, many, medium and few training images, the worst tenth, and the worst class alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from car_ext.priors import shot_groups
from car_ext.report.runs import Run

NAMES = ("all classes", "many", "medium", "few", "worst tenth", "worst class")


class Groups(NamedTuple):
    """Those of `NAMES` that some run has test images of.

    Attributes:
        names: G of them.
        classes: (R, G) int64, classes with test images.
        values: (R, G) mean accuracies of these classes as fractions, NaN where there is none.
        low, high: (R, G) bounds of their 95 % intervals, NaN where unknown.
    """

    names: list[str]
    classes: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def known(self) -> bool:
        """Whether any interval is."""
        return not np.isnan(self.low).all()

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Groups":
        classes = np.zeros((len(runs), len(NAMES)), np.int64)
        values, low, high = np.full((3, len(runs), len(NAMES)), np.nan)
        for number, run in enumerate(runs):
            for at, tested in enumerate(_tested(run)):
                if not tested.any():
                    continue
                classes[number, at] = tested.sum()
                values[number, at] = run.accuracies[tested].mean()
                if bounds := run.mean_interval(tested):
                    low[number, at], high[number, at] = bounds
        kept = classes.sum(axis=0) > 0
        names = [name for name, keep in zip(NAMES, kept, strict=True) if keep]
        return cls(names, classes[:, kept], values[:, kept], low[:, kept], high[:, kept])


def _tested(run: Run) -> list[np.ndarray]:
    """Of each group of `NAMES` its classes with test images, (K,) bool."""
    every = np.ones(len(run.class_names), bool)
    worst = np.arange(every.size) == run.worst_class
    # Of up to ten classes the worst tenth is the worst class.
    tenth = run.worst_tenth & (run.worst_tenth.sum() > 1)
    masks = {"all classes": every, **shot_groups(run.class_counts), "worst tenth": tenth, "worst class": worst}
    return [masks[name] & ~np.isnan(run.accuracies) for name in NAMES]
