"""The wrong predictions: which are kept, and which classes are confused most."""

import numpy as np

from car_ext.metrics.confusions import Confusion, Confusions
from car_ext.metrics.intervals import wilson_interval

PAIRS, IMAGES_PER_PAIR, MOST_CONFIDENT = 12, 4, 12  # of which images are kept

EXAMPLE = np.dtype([("image", np.int64), ("true", np.int64), ("predicted", np.int64), ("confidence", np.float64)])


class Mistakes:
    """The wrong predictions, batch by batch in the order of the test set.

    Only their labels and confidences are kept, so memory grows with the mistakes and not with the classes.
    """

    def __init__(self) -> None:
        self._seen, self._batches = 0, [np.empty(0, EXAMPLE)]

    def update(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """Adds a batch: logits (B, K) floats, targets (B,) whole numbers in 0 .. K-1."""
        logits, targets = np.asarray(logits, np.float64), np.asarray(targets)
        predictions = logits.argmax(axis=1)
        wrong = np.flatnonzero(predictions != targets)
        mistakes = np.empty(wrong.size, EXAMPLE)
        mistakes["image"], mistakes["true"], mistakes["predicted"] = (
            self._seen + wrong,
            targets[wrong],
            predictions[wrong],
        )
        # The softmax of the largest logit: 1 / sum_k exp(z_k - z_max).
        mistakes["confidence"] = 1 / np.exp(logits[wrong] - logits[wrong].max(axis=1, keepdims=True)).sum(axis=1)
        self._batches.append(mistakes)
        self._seen += targets.size

    def worth_showing(self, confusion: Confusion) -> np.ndarray:
        """The most confident mistakes of each most confused pair, and of all; (M,) of EXAMPLE, most confident first."""
        mistakes = np.concatenate(self._batches)
        mistakes = mistakes[np.lexsort((mistakes["image"], -mistakes["confidence"]))]
        chosen = np.zeros(mistakes.size, bool)
        chosen[:MOST_CONFIDENT] = True
        for predicted, true in confused_pairs(confusion, PAIRS):
            of_pair = (mistakes["predicted"] == predicted) & (mistakes["true"] == true)
            chosen[np.flatnonzero(of_pair)[:IMAGES_PER_PAIR]] = True
        return mistakes[chosen]


def confused_pairs(confusion: Confusion, top: int) -> np.ndarray:
    """The pairs of classes that are confused most.

    By the lower end of the 95 % Wilson interval of the fraction of the true class's images that is taken for the other
    class: a class of a single test image does not lead.

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
        top: at most how many.

    Returns:
        (P, 2) int64, predicted and true label, most confused first.
    """
    confusion = Confusions.of(confusion)
    wrong = confusion.wrong
    low, _ = wilson_interval(wrong.counts, confusion.images[wrong.true])
    return np.stack([wrong.predicted, wrong.true], axis=1)[np.argsort(-low, kind="stable")[:top]]
