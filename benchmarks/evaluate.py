#!/usr/bin/env python
"""Compare the evaluation of exported models with the bare loop that only calls them.

Both see the same batches, from memory, and take turns; the share is the bare loop's median time over the evaluation's.
What the evaluation adds is counting, calibration, logit margins and mistakes, in a second thread. Images are noise,
which costs what pictures cost.
"""

import argparse
import datetime
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import onnxruntime

from car_ext.evaluation.evaluate import default_batch_size
from car_ext.evaluation.score import score
from car_ext.export import open_file
from car_ext.runtimes.described import Described

Batches = list[tuple[np.ndarray, np.ndarray]]


def bare(model: Described, batches: Batches) -> float:
    start = time.perf_counter()
    for images, _ in batches:
        model(images)
    return time.perf_counter() - start


def evaluated(model: Described, batches: Batches) -> float:
    start = time.perf_counter()
    score(model, batches, len(model.class_names))
    return time.perf_counter() - start


def measure(model: Described, batch_size: int, batch_count: int, seconds: float) -> tuple[float, float]:
    """Median seconds of both over all batches."""
    random = np.random.default_rng(0)
    batches = [
        (
            random.integers(0, 256, (batch_size, *model.image_shape), np.uint8),
            random.integers(0, len(model.class_names), batch_size),
        )
        for _ in range(batch_count)
    ]
    bare(model, batches[:1])
    times: dict = {bare: [], evaluated: []}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[bare]) < 5:
        for contender, spent in times.items():
            spent.append(contender(model, batches))
    return statistics.median(times[bare]), statistics.median(times[evaluated])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="files written by export/to_onnx.py")
    parser.add_argument("--batch-size", type=int, metavar="N", help="(default: as export/evaluate.py would take)")
    parser.add_argument("--batches", type=int, default=16, metavar="N", help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="for each model (%(default)s)")
    arguments = parser.parse_args()
    print(
        f"{datetime.date.today()}, onnxruntime {onnxruntime.__version__}, {os.cpu_count()} cores, "
        f"{platform.machine()}; medians, taking turns\n\n"
        "| model | runs in | batch | bare loop, images/s | evaluation, images/s | share |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |"
    )
    for path in arguments.models:
        model = open_file(path)
        size = arguments.batch_size or default_batch_size(model.image_size)
        alone, whole = measure(model, size, arguments.batches, arguments.seconds)
        images = size * arguments.batches
        speeds = f"{images / alone:.0f} | {images / whole:.0f} | {alone / whole:.1%}"
        print(f"| {Path(path).name} | {model.provider} | {size} | {speeds} |", flush=True)


if __name__ == "__main__":
    main()
