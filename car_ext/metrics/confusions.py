"""Confusions that occur, counted: N test images give at most N of them, however many K x K could be."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, Union

import numpy as np
from numpy.typing import ArrayLike

from car_ext.errors import InputError

DENSEST = 20_000  # classes up to which `Confusions.dense` writes the matrix out: 3.2 GB
WAITING = 1 << 16  # images that a `Counter` holds before it counts them

Confusion: TypeAlias = Union["Confusions", np.ndarray]  # what functions that are given one take


@dataclass(frozen=True, eq=False)
class Confusions:
    """How often each class was predicted for each true class, without the zeros.

    Where a (K, K) array is wanted, `np.asarray` writes it out; `confusions[predicted, true]` reads numbers of it. The
    sums of its columns, its rows and its diagonal are `images`, `taken` and `right`.

    Attributes:
        classes: K.
        predicted, true: (E,) int64 labels, by rising predicted and then true label, each pair once.
        counts: (E,) of images, none 0.
    """

    classes: int
    predicted: np.ndarray
    true: np.ndarray
    counts: np.ndarray

    @classmethod
    def count(cls, predictions: ArrayLike, targets: ArrayLike, classes: int) -> "Confusions":
        """Counts what was predicted for what.

        Args:
            predictions: (N,) whole numbers in 0 .. K-1.
            targets: (N,) whole numbers in 0 .. K-1.
            classes: K.

        Raises:
            InputError: different lengths, or a label outside 0 .. K-1.
        """
        counter = Counter(classes)
        counter.update(predictions, targets)
        return counter.confusions

    @classmethod
    def of(cls, confusion: Confusion) -> "Confusions":
        """Of a (K, K) array of counts, row = predicted, column = true; one that is no array as it is.

        Raises:
            InputError: an array that is not square.
        """
        if isinstance(confusion, Confusions):
            return confusion
        matrix = np.asarray(confusion)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise InputError(f"confusion has shape {matrix.shape}: give (K, K), row = predicted, column = true")
        predicted, true = np.nonzero(matrix)
        return cls(len(matrix), predicted, true, matrix[predicted, true])

    @classmethod
    def of_entries(cls, classes: int, predicted: ArrayLike, true: ArrayLike, counts: ArrayLike) -> "Confusions":
        """Of entries in any order; those of one pair add up.

        Args:
            classes: K.
            predicted: (E,) whole numbers in 0 .. K-1.
            true: (E,) whole numbers in 0 .. K-1.
            counts: (E,) of images.

        Raises:
            InputError: a label outside 0 .. K-1.
        """
        predicted, true = np.asarray(predicted), np.asarray(true)
        check_labels("predictions", predicted, classes)
        check_labels("targets", true, classes)
        return cls._summed(classes, predicted.astype(np.int64) * classes + true, np.asarray(counts))

    @classmethod
    def _summed(cls, classes: int, cells: np.ndarray, counts: np.ndarray) -> "Confusions":
        """Of cells, (E,) int64, and their counts."""
        order = np.argsort(cells, kind="stable")
        cells, counts = cells[order], counts[order]
        first = np.flatnonzero(np.diff(cells, prepend=-1))
        summed = np.add.reduceat(counts, first) if first.size else counts
        predicted, true = np.divmod(cells[first][summed != 0], classes)
        return cls(classes, predicted, true, summed[summed != 0])

    def __len__(self) -> int:
        return self.classes

    @property
    def shape(self) -> tuple[int, int]:
        """(K, K)."""
        return self.classes, self.classes

    def __add__(self, other: "Confusions") -> "Confusions":
        """Both together: batches, or the parts of several processes, add up.

        Raises:
            InputError: different numbers of classes.
        """
        if other.classes != self.classes:
            raise InputError(
                f"confusions of {self.classes} and {other.classes} classes do not add up: count with the same"
            )
        cells = [part.predicted * np.int64(self.classes) + part.true for part in (self, other)]
        return Confusions._summed(self.classes, np.concatenate(cells), np.concatenate([self.counts, other.counts]))

    def __getitem__(self, cell: tuple[ArrayLike, ArrayLike]) -> Any:
        """The count of a predicted and a true label, or of arrays of them, (N,) each; 0 where that did not occur."""
        predicted, true = (np.asarray(labels) for labels in cell)
        wanted = predicted * np.int64(self.classes) + true
        at = np.minimum(np.searchsorted(self._cells, wanted), max(self._cells.size - 1, 0))
        found = self._cells[at] == wanted if self._cells.size else np.zeros(wanted.shape, bool)
        values = np.where(found, self.counts[at] if self.counts.size else 0, 0)
        return values if values.ndim else values[()]

    def column(self, true: int) -> tuple[np.ndarray, np.ndarray]:
        """What the images of a class are taken for: labels, rising, and counts, (M,) each."""
        own = np.flatnonzero(self.true == true)
        return self.predicted[own], self.counts[own]

    @cached_property
    def right(self) -> np.ndarray:
        """(K,) images of each class that are recognised: the diagonal."""
        own = self.predicted == self.true
        return self._over(self.true[own], self.counts[own])

    @cached_property
    def images(self) -> np.ndarray:
        """(K,) images of each class: the sum of its column."""
        return self._over(self.true, self.counts)

    @cached_property
    def taken(self) -> np.ndarray:
        """(K,) images that are taken for each class: the sum of its row."""
        return self._over(self.predicted, self.counts)

    @property
    def wrong(self) -> "Confusions":
        """Those beside the diagonal."""
        return self.kept(self.predicted != self.true)

    def kept(self, entries: np.ndarray) -> "Confusions":
        """Those of its entries alone, (E,) bool."""
        return Confusions(self.classes, self.predicted[entries], self.true[entries], self.counts[entries])

    def among(self, labels: Sequence[int] | np.ndarray) -> "Confusions":
        """Those between some classes alone, which are labelled by their places in `labels`, (M,)."""
        places = np.full(self.classes, -1)
        places[labels] = np.arange(len(labels))
        inside = self.kept((places[self.predicted] >= 0) & (places[self.true] >= 0))
        return self.of_entries(len(labels), places[inside.predicted], places[inside.true], inside.counts)

    def dense(self) -> np.ndarray:
        """(K, K) counts; row = predicted, column = true.

        Raises:
            InputError: more classes than `DENSEST`.
        """
        if self.classes > DENSEST:
            raise InputError(
                f"a matrix of {self.classes} x {self.classes} confusions takes {self.classes**2 * 8 / 1e9:.0f} GB: use "
                "the entries of Confusions, predicted, true and counts"
            )
        matrix = np.zeros(self.shape, self.counts.dtype)
        matrix[self.predicted, self.true] = self.counts
        return matrix

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """`dense`, for NumPy.

        Raises:
            ValueError: it is not to be copied.
        """
        if copy is False:
            raise ValueError("confusions are no array, so one can only be made of them: leave copy=False out")
        return self.dense().astype(dtype or self.counts.dtype, copy=False)

    @cached_property
    def _cells(self) -> np.ndarray:
        """(E,) int64, rising: where the entries stand in the matrix, row after row."""
        return self.predicted * np.int64(self.classes) + self.true

    def _over(self, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
        # In the counts' own type: floats would round whole numbers above 2^53.
        total = np.zeros(self.classes, np.result_type(counts, np.int64))
        np.add.at(total, labels, counts)
        return total


class Counter:
    """Counts confusions batch by batch, in memory for those that occur and `WAITING` images besides.

        counter = Counter(classes)
        for predictions, targets in batches:
            counter.update(predictions, targets)
        counter.confusions

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        self._classes, self._images = classes, 0
        self._waiting: list[np.ndarray] = []  # cells, as of `Confusions`
        none = np.empty(0, np.int64)
        self._counted = Confusions(classes, none, none, none)

    def update(self, predictions: ArrayLike, targets: ArrayLike) -> None:
        """Adds a batch.

        Args:
            predictions: (N,) whole numbers in 0 .. K-1.
            targets: (N,) whole numbers in 0 .. K-1.

        Raises:
            InputError: different lengths, or a label outside 0 .. K-1; nothing is counted then.
        """
        predictions, targets = np.asarray(predictions), np.asarray(targets)
        if predictions.shape != targets.shape or targets.ndim != 1:
            raise InputError(
                f"predictions have shape {predictions.shape} and targets {targets.shape}: "
                "give one of each for every image"
            )
        check_labels("predictions", predictions, self._classes)
        check_labels("targets", targets, self._classes)
        self._waiting.append(predictions.astype(np.int64) * self._classes + targets.astype(np.int64))
        self._images += targets.size
        # As many as there are entries: each is then sorted a few times, however many batches there are.
        if self._images >= max(WAITING, self._counted.counts.size):
            self._count()

    @property
    def confusions(self) -> Confusions:
        """All so far."""
        self._count()
        return self._counted

    def _count(self) -> None:
        if self._waiting:
            # Sorted without their order: several times as fast as `np.unique` with what `_summed` needs.
            cells = np.sort(np.concatenate(self._waiting))
            first = np.flatnonzero(np.diff(cells, prepend=-1))
            predicted, true = np.divmod(cells[first], self._classes)
            self._counted += Confusions(self._classes, predicted, true, np.diff(first, append=cells.size))
            self._waiting, self._images = [], 0


def check_labels(kind: str, labels: np.ndarray, num_classes: int) -> None:
    """Holds (N,) labels to 0 .. K-1.

    Raises:
        InputError: one lies outside; `kind` says in the message what the labels are.
    """
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise InputError(
            f"{kind} hold label {wrong}, outside 0 to {num_classes - 1}: use the class names the model was trained with"
        )
