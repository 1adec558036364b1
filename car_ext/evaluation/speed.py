"""How long a call takes."""

import time
from collections.abc import Sequence

import numpy as np

from car_ext.runtimes.described import Described

SINGLE_CALLS, SINGLE_SECONDS = 100, 2.0  # of the latency of one image: whichever is over first


def single_calls(model: Described, image: np.ndarray) -> list[float]:
    """Seconds of calls with one image, the first few left out."""
    end, seconds = time.perf_counter() + SINGLE_SECONDS, list[float]()
    while len(seconds) < SINGLE_CALLS and (not seconds or time.perf_counter() <= end):
        start = time.perf_counter()
        model(image)
        seconds.append(time.perf_counter() - start)
    return seconds[min(5, len(seconds) - 1) :]


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95 = 1e3 * np.quantile(seconds, [0.5, 0.95])
    return {"p50": float(p50), "p95": float(p95)}
