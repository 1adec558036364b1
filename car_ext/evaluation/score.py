"""Every batch through the model, counted meanwhile."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from car_ext.metrics.scoring import Scoring


class Scored(NamedTuple):
    """What `score` saw.

    Attributes:
        scoring: what was counted.
        calls: (images, seconds) of each call of the model.
    """

    scoring: Scoring
    calls: list[tuple[int, float]]


def score(
    model: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    done: Callable[[int], object] = lambda images: None,
    keep_logits: bool = False,
    also: Callable[[np.ndarray, np.ndarray], object] | None = None,
) -> Scored:
    """Run every batch through the model; the counting goes on in another thread meanwhile.

    Args:
        model: uint8 (N, H, W, C) to float logits (N, K).
        batches: of images and int64 labels (N,).
        num_classes: K.
        done: told how many images a call had.
        keep_logits: as of `Scoring`.
        also: counts logits and labels too.

    Raises:
        InputError: logits that are not finite, or labels outside 0 .. K-1.
    """
    scored = Scored(Scoring(num_classes, keep_logits), [])

    def count(logits: np.ndarray, labels: np.ndarray) -> None:
        scored.scoring.update(logits, labels)
        if also:
            also(logits, labels)

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
