"""What a log says, as numbers."""

from datetime import datetime

import numpy as np

from car_ext.priors import shot_groups
from car_ext.report.monitoring.log import Log


def _shares(counts: np.ndarray) -> np.ndarray:
    """(..., K) counts to their part of all."""
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)


def _first_shares(log: Log) -> np.ndarray | None:
    """(K,) part of each class in what the first batches were taken for; None where there is but one batch."""
    return _shares(log.predicted[log.first].sum(axis=0)) if len(log.batches) > 1 else None


def _first_name(log: Log) -> str:
    count = log.first.stop
    return "the first batch" if count == 1 else f"the first {count} batches"


def _worst(correct: np.ndarray, true: np.ndarray) -> tuple[float, int]:
    """Accuracy and label of the worst class, the first of equals; (K,) counts with at least one image."""
    accuracies = np.where(true > 0, correct / np.maximum(true, 1), np.inf)
    return float(accuracies.min()), int(accuracies.argmin())


def _rarest(log: Log) -> tuple[str, np.ndarray] | None:
    """The group of the fewest training images, name and (K,) bool; None where it is all classes, or unknown."""
    groups = _shot_groups(log)
    return list(groups.items())[-1] if len(groups) > 1 else None


def _shot_groups(log: Log) -> dict[str, np.ndarray]:
    if log.training is None:
        return {}
    known = log.training > 0
    groups = {name: mask & known for name, mask in shot_groups(np.maximum(log.training, 1)).items()}
    return {name: mask for name, mask in groups.items() if mask.any()}


def _before(log: Log, labelled: np.ndarray) -> dict[str, float]:
    """The leads' values over the first batches: of all their images, but of the worst class the mean over batches.

    The worst class of many images is higher than that of as few as one batch has, whose luck picks it.
    """
    if len(log.batches) == 1:
        return {}
    predicted, true, correct = (table[log.first].sum(axis=0) for table in (log.predicted, log.true, log.correct))
    images = log.predicted[log.first].sum(axis=1)
    values = {"mean confidence": np.average(log.confidence[log.first], weights=images)}
    if true.any():
        worst = [_worst(log.correct[at], log.true[at])[0] for at in np.flatnonzero(labelled[log.first])]
        values |= {"worst class": np.mean(worst), "overall": correct.sum() / true.sum()}
    if rarest := _rarest(log):
        name, mask = rarest
        values[f"taken for {name}-shot classes"] = _shares(predicted)[mask].sum()
    return values


def _moves(log: Log) -> np.ndarray:
    """(K,) how far each class's share has moved; of a single batch the share itself."""
    first, latest = _first_shares(log), _shares(log.predicted[-1])
    return latest if first is None else np.abs(latest - first)


def _day(time: datetime) -> str:
    return f"{time.day} {time:%B %Y}"


def _moment(time: datetime) -> str:
    return f"{time.day} {time:%b %Y %H:%M}".replace(" ", "\N{NO-BREAK SPACE}")
