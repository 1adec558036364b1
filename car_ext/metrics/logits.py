"""What the logits say beyond the predicted class: calibration, and how far each class's logit stands out."""

from collections.abc import Sequence

import numpy as np

from car_ext.errors import InputError
from car_ext.metrics.confusions import check_labels
from car_ext.metrics.counts import by_name


class ScoreStatistics:
    """Statistics of raw test logits, batch by batch; memory grows with the classes, not with the images.

        statistics = ScoreStatistics(num_classes)
        for logits, targets in batches:
            statistics.update(logits, targets)
        statistics.summary(class_names)

    With p = softmax(z), confidence max_k p_k, and means over the images q seen so far:

    - ece: sum_b (n_b / n) |accuracy_b - confidence_b| over bins (b / bins, (b + 1) / bins] of the confidence.
      Guo et al., On Calibration of Modern Neural Networks, ICML 2017; 15 bins as in Zhong et al., CVPR 2021.
    - brier: mean of sum_k (p_k - 1[k = y])^2, which lies in [0, 2]. Brier, 1950.
    - nll: mean of -log p_y, in nats.
    - loma: L_i = E[z_i | y = i] - E[z_i | y != i], the logit margin of class i.
    - regularized_std: R_i = std(z_i | y = i) / L_i, with the population's standard deviation, and
      regularized_std_others: std(z_i | y != i) / L_i. Both margins: arXiv 2603.16732 (CVPR 2026).

    Everything is computed in float64; standard deviations from centred sums that are merged as Chan et al. (1983) do,
    so a large common offset of the logits costs no digits.

    Args:
        num_classes: K, at least 2.
        bins: of the confidence.

    Raises:
        InputError: fewer than 2 classes or 1 bin.
    """

    def __init__(self, num_classes: int, bins: int = 15) -> None:
        if num_classes < 2 or bins < 1:
            raise InputError(f"num_classes is {num_classes} and bins {bins}: give at least 2 classes and 1 bin")
        self.num_classes, self.bins = num_classes, bins
        self._edges = np.arange(bins + 1) / bins
        self._binned = np.zeros((3, bins))  # images, sum of confidences, correct
        self._brier = self._nll = 0.0  # sums
        self._own, self._others = _Moments(num_classes), _Moments(num_classes)  # of z_i where y = i, y != i

    def update(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """Adds a batch.

        Args:
            logits: (B, K) floats, of any precision; without log-priors or other adjustments.
            targets: (B,) whole numbers in 0 .. K-1.

        Raises:
            InputError: shapes that do not fit, a label outside 0 .. K-1, or logits that are not finite; the
                statistics are then as before.
        """
        self.check(logits, targets)
        logits, targets = np.asarray(logits, np.float64), np.asarray(targets)
        if targets.size:
            self._add_probabilities(logits, targets)
            self._add_moments(logits, targets)

    def check(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """Refuses what `update` does.

        Raises:
            InputError: as `update`.
        """
        logits, targets = np.asarray(logits), np.asarray(targets)
        if logits.shape != (targets.size, self.num_classes) or targets.ndim != 1:
            raise InputError(
                f"logits have shape {logits.shape} and targets {targets.shape}: "
                f"give (B, {self.num_classes}) and (B,) for the same B images"
            )
        check_labels("targets", targets, self.num_classes)
        if not np.isfinite(logits).all():
            row, label = np.argwhere(~np.isfinite(logits))[0]
            raise InputError(
                f"logits hold {logits[row, label]} for class {label} in row {row}: "
                "train with a lower learning rate or evaluate in higher precision"
            )

    def merge(self, other: "ScoreStatistics") -> None:
        """Adds all that another one has seen, as if its batches had been added here.

        Raises:
            InputError: different numbers of classes or bins.
        """
        if (self.num_classes, self.bins) != (other.num_classes, other.bins):
            raise InputError(
                f"statistics of {other.num_classes} classes and {other.bins} bins cannot be merged into those of "
                f"{self.num_classes} and {self.bins}: use the same for both"
            )
        self._binned += other._binned
        self._brier += other._brier
        self._nll += other._nll
        self._own.merge(other._own)
        self._others.merge(other._others)

    def summary(self, class_names: Sequence[str] | None = None) -> dict:
        """The statistics, ready for JSON: None where undefined.

        Args:
            class_names: K names, the keys of the scores that every class has; the label where None.

        Returns:
            {"ece", "ece_bins", "brier", "nll"} and, each as name to value, {"loma", "regularized_std",
            "regularized_std_others"}. A class that has no image, or all of them, has no margin.
        """
        names = [str(label) for label in range(self.num_classes)] if class_names is None else class_names
        images, confidences, correct = self._binned
        total = images.sum()
        margins = self._own.mean - self._others.mean
        spread = np.where(margins == 0, np.nan, margins)
        return {
            "ece": float(np.abs(correct - confidences).sum() / total) if total else None,
            "ece_bins": self.bins,
            "brier": float(self._brier / total) if total else None,
            "nll": float(self._nll / total) if total else None,
            "loma": by_name(margins, names),
            "regularized_std": by_name(self._own.deviation() / spread, names),
            "regularized_std_others": by_name(self._others.deviation() / spread, names),
        }

    def reliability(self) -> dict[str, np.ndarray]:
        """The data of a reliability diagram.

        Returns:
            {"edges": (bins + 1,) of the confidence, "count": (bins,) int64 images, "confidence": (bins,) their mean
            confidence, "accuracy": (bins,) the fraction of them that is right}; NaN for empty bins.
        """
        images, confidences, correct = self._binned
        defined = np.where(images > 0, images, np.nan)
        return {
            "edges": self._edges.copy(),
            "count": images.astype(np.int64),
            "confidence": confidences / defined,
            "accuracy": correct / defined,
        }

    def _add_probabilities(self, logits: np.ndarray, targets: np.ndarray) -> None:
        true = np.arange(targets.size), targets
        shifted = logits - logits.max(axis=1, keepdims=True)
        probabilities = np.exp(shifted)
        normalizers = probabilities.sum(axis=1)
        probabilities /= normalizers[:, None]
        self._nll += float((np.log(normalizers) - shifted[true]).sum())
        confidences = probabilities.max(axis=1)
        right = logits.argmax(axis=1) == targets
        # Bins are open below and closed above; the inner edges alone, so that none falls outside.
        chosen = np.searchsorted(self._edges[1:-1], confidences, side="left")
        for row, weights in zip(self._binned, (None, confidences, right), strict=True):
            row += np.bincount(chosen, weights, self.bins)
        probabilities[true] -= 1
        self._brier += float(np.square(probabilities).sum())

    def _add_moments(self, logits: np.ndarray, targets: np.ndarray) -> None:
        true = np.arange(targets.size), targets
        own, others = _Moments(self.num_classes), _Moments(self.num_classes)
        own.count += np.bincount(targets, minlength=self.num_classes)
        own.mean = np.bincount(targets, logits[true], self.num_classes) / _or_nan(own.count)
        own.squares = np.bincount(targets, (logits[true] - own.mean[targets]) ** 2, self.num_classes)
        others.count += targets.size - own.count
        # The true logits are left out before summing: subtracting their sum would cancel digits.
        rest = logits.copy()
        rest[true] = 0
        others.mean = rest.sum(axis=0) / _or_nan(others.count)
        rest = logits - others.mean
        rest[true] = 0
        others.squares = np.square(rest).sum(axis=0)
        self._own.merge(own)
        self._others.merge(others)


class _Moments:
    """Count, mean and sum of squared deviations of one variable a class; the mean is NaN where the count is 0."""

    def __init__(self, num_classes: int) -> None:
        self.count = np.zeros(num_classes, np.int64)
        self.mean: np.ndarray = np.full(num_classes, np.nan)
        self.squares: np.ndarray = np.zeros(num_classes)

    def merge(self, other: "_Moments") -> None:
        ours, theirs, both = self.count, other.count, self.count + other.count
        apart = np.where((ours > 0) & (theirs > 0), other.mean - self.mean, 0.0)
        mean = np.where(ours > 0, self.mean, other.mean)
        self.squares = self.squares + other.squares + apart**2 * ours * theirs / np.maximum(both, 1)
        self.mean = mean + apart * theirs / np.maximum(both, 1)
        self.count = both

    def deviation(self) -> np.ndarray:
        """(K,) standard deviation of the population, NaN where the count is 0."""
        return np.sqrt(self.squares / _or_nan(self.count))


def _or_nan(count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, count, np.nan)
