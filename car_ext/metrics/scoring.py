"""What a pass over a test set leaves: every runtime and every training counts with the same code."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from car_ext.metrics.confusions import Confusion, Confusions, Counter
from car_ext.metrics.findings import Findings
from car_ext.metrics.intervals import accuracy_intervals
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.mistakes import Mistakes
from car_ext.metrics.predictions import Predictions
from car_ext.metrics.summary import summarize
from car_ext.priors import PerClass

if TYPE_CHECKING:
    from car_ext.datasets import Images


PART = 1 << 23  # logits that are worked on at a time: what is made of them takes several times 8 bytes each


class Scoring:
    """Confusions, statistics of the logits and mistakes, batch by batch in the order of the test set.

        scoring = Scoring(num_classes)
        for logits, targets in batches:
            scoring.update(logits, targets)
        scoring.summary(class_counts, class_names)

    Attributes:
        statistics: of the logits.
        mistakes: the wrong predictions.

    Args:
        num_classes: K.
        keep_logits: keep those of every image in `predictions`, which takes 4 K bytes an image.
    """

    def __init__(self, num_classes: int, keep_logits: bool = False) -> None:
        self._counter = Counter(num_classes)
        self.statistics, self.mistakes = ScoreStatistics(num_classes), Mistakes()
        self._predictions: list[Predictions] = []
        self._keep_logits = keep_logits

    @property
    def confusion(self) -> Confusions:
        """What was predicted for what, so far."""
        return self._counter.confusions

    @property
    def predictions(self) -> Predictions:
        """Of every image so far; there must have been a batch."""
        return Predictions.joined(self._predictions)

    def update(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """Adds a batch.

        Args:
            logits: (B, K) floats, of any precision; without log-priors or other adjustments.
            targets: (B,) whole numbers in 0 .. K-1.

        Raises:
            InputError: shapes that do not fit, a label outside 0 .. K-1, or logits that are not finite.
        """
        rows = max(1, PART // self.statistics.num_classes)
        if len(logits) > rows:
            self.statistics.check(logits, targets)  # the whole batch, or nothing of it is counted
            for start in range(0, len(logits), rows):
                self.update(logits[start : start + rows], targets[start : start + rows])
            return
        logits, targets = np.asarray(logits, np.float64), np.asarray(targets)  # once for all four
        self.statistics.update(logits, targets)
        self.mistakes.update(logits, targets)
        self._predictions.append(Predictions.of(logits, targets, self._keep_logits))
        self._counter.update(self._predictions[-1].predicted, targets)

    def summary(
        self,
        class_counts: PerClass,
        class_names: Sequence[str],
        train_worst_class_accuracy: float | None = None,
        train_confusion: Confusion | None = None,
    ) -> dict[str, Any]:
        """Every score, ready for JSON.

        `summarize`'s, under "scores" those of `ScoreStatistics.summary`, and under "intervals" those of
        `accuracy_intervals`.

        Raises:
            InputError: as `summarize`.
        """
        summary = summarize(self.confusion, class_counts, class_names, train_worst_class_accuracy, train_confusion)
        return {
            **summary,
            "scores": self.statistics.summary(class_names),
            "intervals": accuracy_intervals(self.confusion, class_names),
        }

    def findings(self, images: "Images", files: Sequence[str] = ()) -> Findings:
        """What a report shows besides; of the images that were scored, and of their names, mistakes are kept."""
        return Findings.collect(self.confusion, self.statistics.reliability(), self.mistakes, images, files)
