"""What a model takes every image of a split for."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

TOP = 5  # classes kept of an image


@dataclass(frozen=True)
class Predictions:
    """Every image's classes by their probability, in the order of the split.

    Attributes:
        targets: (N,) int64, true labels.
        top: (N, min(5, K)) int64, labels, most probable first; the first is what is predicted.
        probabilities: (N, min(5, K)) float64, of `top`, of the softmax of the logits as they are.
        loss: (N,) float64, the cross-entropy of the true label.
        logits: (N, K) float32, where they are kept.
        files: N names of the images, as of `datasets.Split`; () where they have none.
    """

    targets: np.ndarray
    top: np.ndarray
    probabilities: np.ndarray
    loss: np.ndarray
    logits: np.ndarray | None = None
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def predicted(self) -> np.ndarray:
        """(N,) int64, the most probable labels."""
        return self.top[:, 0]

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool."""
        return self.predicted == self.targets

    @classmethod
    def of(cls, logits: np.ndarray, targets: np.ndarray, keep_logits: bool = False) -> "Predictions":
        """Of logits (N, K), floats, and targets (N,), whole numbers in 0 .. K-1."""
        logits, targets = np.asarray(logits, np.float64), np.asarray(targets, np.int64)
        top = largest(logits, TOP)
        highest = logits.max(axis=1, keepdims=True)
        log_total = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
        log_probabilities = np.take_along_axis(logits, top, axis=1) - log_total
        loss = log_total[:, 0] - logits[np.arange(len(targets)), targets]
        return cls(targets, top, np.exp(log_probabilities), loss, logits.astype(np.float32) if keep_logits else None)

    @classmethod
    def joined(cls, batches: "Sequence[Predictions]") -> "Predictions":
        """Batches as one, in their order: all with logits, or none."""
        arrays = [field.name for field in fields(cls) if getattr(batches[0], field.name) is not None]
        arrays.remove("files")
        files = tuple(name for batch in batches for name in batch.files)
        joined = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in arrays}
        return cls(**joined, files=files)


def largest(values: np.ndarray, most: int) -> np.ndarray:
    """Where the largest values of every row are, falling; of equal values the first leads, as with `argmax`.

    A stable sort of all would say the same, in several times the time where there are thousands of columns.

    Args:
        values: (N, K) finite floats.
        most: how many of a row, at most K.

    Returns:
        (N, min(most, K)) int64.
    """
    most = min(most, values.shape[1])
    taken = np.sort(np.argpartition(-values, most - 1, axis=1)[:, :most], axis=1)
    found = np.take_along_axis(values, taken, axis=1)
    taken = np.take_along_axis(taken, np.argsort(-found, axis=1, kind="stable"), axis=1)
    # Of several that equal the least one taken, the partition has chosen any.
    chance = (values >= found.min(axis=1, keepdims=True)).sum(axis=1) > most
    taken[chance] = np.argsort(-values[chance], axis=1, kind="stable")[:, :most]
    return taken
