"""What a model takes every image of a split for."""

from dataclasses import dataclass

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
    """

    targets: np.ndarray
    top: np.ndarray
    probabilities: np.ndarray
    loss: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """(N,) int64, the most probable labels."""
        return self.top[:, 0]

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool."""
        return self.predicted == self.targets

    @classmethod
    def of(cls, logits: np.ndarray, targets: np.ndarray) -> "Predictions":
        """Of logits (N, K), floats, and targets (N,), whole numbers in 0 .. K-1."""
        logits, targets = np.asarray(logits, np.float64), np.asarray(targets, np.int64)
        # argmax and a stable sort agree: of equal logits the first class leads.
        top = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
        largest = logits.max(axis=1, keepdims=True)
        log_total = largest + np.log(np.exp(logits - largest).sum(axis=1, keepdims=True))
        log_probabilities = np.take_along_axis(logits, top, axis=1) - log_total
        rows = np.arange(len(targets))
        return cls(targets, top, np.exp(log_probabilities), log_total[:, 0] - logits[rows, targets])

    @classmethod
    def joined(cls, batches: "list[Predictions]") -> "Predictions":
        """Batches as one, in their order."""
        fields = ("targets", "top", "probabilities", "loss")
        return cls(*(np.concatenate([getattr(batch, field) for batch in batches]) for field in fields))
