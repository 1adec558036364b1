"""Every batch through the model, counted meanwhile."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from car_ext.metrics import summary as metrics
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.mistakes import Mistakes


class Scored(NamedTuple):
    """What `score` saw.

    Attributes:
        confusion: (K, K) int64 counts; row = predicted, column = true.
        statistics: of the logits.
        mistakes: the wrong predictions.
        calls: (images, seconds) of each call of the model.
    """

    confusion: np.ndarray
    statistics: ScoreStatistics
    mistakes: Mistakes
    calls: list[tuple[int, float]]


def score(
    model: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    done: Callable[[int], object] = lambda images: None,
) -> Scored:
    """Run every batch through the model; the counting goes on in another thread meanwhile.

    Args:
        model: uint8 (N, H, W, C) to float logits (N, K).
        batches: of images and int64 labels (N,).
        num_classes: K.
        done: told how many images a call had.

    Raises:
        InputError: logits that are not finite, or labels outside 0 .. K-1.
    """
    confusion = np.zeros((num_classes, num_classes), np.int64)
    scored = Scored(confusion, ScoreStatistics(num_classes), Mistakes(), [])

    def count(logits: np.ndarray, labels: np.ndarray) -> None:
        nonlocal confusion
        logits = np.asarray(logits, np.float64)  # once for both
        scored.statistics.update(logits, labels)
        scored.mistakes.update(logits, labels)
        confusion += metrics.confusion_counts(logits.argmax(axis=1), labels, num_classes)

    with ThreadPoolExecutor(1) as pool:
        counted: Future | None = None
        for images, labels in batches:
            start = time.perf_counter()
            logits = model(images)
            scored.calls.append((len(images), time.perf_counter() - start))
            if counted:
                counted.result()
            counted = pool.submit(count, logits, labels)
            done(len(images))
        if counted:
            counted.result()
    return scored
