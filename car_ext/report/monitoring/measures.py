"""What a log says, as numbers."""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from car_ext.metrics.counts import worst_first
from car_ext.metrics.intervals import wilson_interval
from car_ext.priors import shot_groups
from car_ext.report.monitoring.log import Log

EXPECTED = 3  # images of a class, whose absence is then no chance: e^-3 is 5 %


class Accuracies(NamedTuple):
    """(T,) fractions and the bounds of their 95 % Wilson intervals, NaN for batches without labels."""

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, correct: np.ndarray, images: np.ndarray) -> "Accuracies":
        return cls(correct / np.where(images > 0, images, np.nan), *wilson_interval(correct, images))


class ShotGroup(NamedTuple):
    name: str
    classes: np.ndarray  # (K,) bool


class Before(NamedTuple):
    """The latest batch's few numbers as the first batches had them, fractions; None where unknown."""

    confidence: float | None = None
    worst: float | None = None
    overall: float | None = None
    rarest: float | None = None


class Measures:
    """What T batches over K classes say; the latest is compared with the first ones."""

    def __init__(self, log: Log) -> None:
        self.log = log

    @cached_property
    def images(self) -> np.ndarray:
        """(T,) int64."""
        return self.log.predicted.sum(axis=1)

    @cached_property
    def shares(self) -> np.ndarray:
        """(T, K) part of each class in what the pictures of a batch were taken for."""
        return parts(self.log.predicted)

    @cached_property
    def first(self) -> np.ndarray | None:
        """(K,) these parts over the first batches; None where there is but one batch."""
        log = self.log
        return parts(log.predicted[log.first].sum(axis=0)) if len(log.batches) > 1 else None

    @cached_property
    def trained(self) -> np.ndarray | None:
        """(K,) part of each class in the training images; None where unknown."""
        return None if self.log.training is None else parts(self.log.training)

    @cached_property
    def movers(self) -> np.ndarray:
        """(K,) labels, whose part has moved most first; of a single batch the largest part first."""
        latest = self.shares[-1]
        moves = latest if self.first is None else np.abs(latest - self.first)
        return np.argsort(-moves, kind="stable")

    @cached_property
    def missing(self) -> np.ndarray:
        """Labels that no picture of the latest batch was taken for, though several should have been."""
        if self.first is None:
            return np.arange(0)
        return np.flatnonzero((self.log.predicted[-1] == 0) & (self.first * self.images[-1] >= EXPECTED))

    @cached_property
    def overall(self) -> Accuracies:
        return Accuracies.of(self.log.correct.sum(axis=1), self.log.true.sum(axis=1))

    @cached_property
    def worst_labels(self) -> np.ndarray:
        """(T,) int64 worst class of each batch, of equals as in `worst_first`; of no meaning where it has no labels."""
        true, names = self.log.true, self.log.class_names
        counts = np.zeros(len(names)) if self.log.training is None else self.log.training
        order = np.array(worst_first(np.zeros(len(names)), counts, names))
        accuracies = np.where(true > 0, self.log.correct / np.maximum(true, 1), np.inf)
        return order[accuracies[:, order].argmin(axis=1)]

    @cached_property
    def worst(self) -> Accuracies:
        """Of the worst class of each batch."""
        batches = np.arange(len(self.log.batches))
        return Accuracies.of(self.log.correct[batches, self.worst_labels], self.log.true[batches, self.worst_labels])

    @cached_property
    def shot_groups(self) -> list[ShotGroup]:
        """Those with classes, most training images first; none where training images are unknown."""
        if self.log.training is None:
            return []
        known = self.log.training > 0
        groups = shot_groups(np.maximum(self.log.training, 1))
        return [ShotGroup(name, mask & known) for name, mask in groups.items() if (mask & known).any()]

    @property
    def rarest(self) -> ShotGroup | None:
        """The group of the fewest training images; None where it is all classes, or unknown."""
        return self.shot_groups[-1] if len(self.shot_groups) > 1 else None

    @cached_property
    def before(self) -> Before:
        """Of all images of the first batches, but of the worst class the mean over these batches.

        The worst class of many images is higher than that of as few as one batch has, whose luck picks it.
        """
        if self.first is None:
            return Before()
        log, first = self.log, self.log.first
        before = Before(
            confidence=np.average(log.confidence[first], weights=self.images[first]),
            rarest=self.first[self.rarest.classes].sum() if self.rarest else None,
        )
        if not log.labelled[first].any():
            return before
        return before._replace(
            worst=np.nanmean(self.worst.values[first]), overall=log.correct[first].sum() / log.true[first].sum()
        )


def parts(counts: np.ndarray) -> np.ndarray:
    """(..., K) counts to their part of all."""
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
