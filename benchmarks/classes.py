"""CAR with many classes: seconds, nanoseconds an element and memory of a step, the average kept whole or as a window.

    python benchmarks/classes.py                  # the sizes of docs/scaling.md; up to 100,000 classes, 5 GB
    python benchmarks/classes.py 256x10000        # samples x classes
    python benchmarks/classes.py 256x1000 256x3000 256x8142 256x30000 256x100000 64x30000 128x30000 512x30000 \\
      --dense 256x1000 256x3000 256x8142 --beta 0.5 0.25 0.75 --json benchmarks/results/classes-DATE.json
                                                  # what docs/scaling_plot.py draws

Each size runs in a process of its own, so that its memory is its own; the sizes are visited in turns.
"""

import argparse
import datetime
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from workload import batches, class_counts, shape, step

from car_ext import CAR

WHOLE = "128x8142"  # what the others are compared with: iNaturalist 2018
WINDOWS = ["256x1000", "256x8142", "256x30000", "256x100000", "64x100000"]


def measure(samples: int, classes: int, estimator: str, beta: float, steps: int) -> dict[str, float]:
    """Of steps after those that fill the window."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    car = CAR(class_counts(classes), estimator=estimator, beta=beta)
    fill = 0 if car.recent is None else car.recent.window
    taken = []
    for number in range(fill + steps):
        (batch,) = batches(samples, classes, 1, seed=number)
        start = time.perf_counter()
        step(car, *batch)
        taken.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    rows = classes if car.recent is None else int((car.recent.classes >= 0).sum())
    return {"seconds": statistics.median(taken[-steps:]), "gigabytes": peak * 1024 / 1e9, "rows": rows, "batches": fill}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=WINDOWS, metavar="SAMPLESxCLASSES")
    parser.add_argument("--dense", nargs="+", default=[WHOLE], metavar="SAMPLESxCLASSES", help=f"kept whole ({WHOLE})")
    parser.add_argument(
        "--beta", type=float, nargs="+", default=[0.5], help="memory of the average, and so the window's length (0.5)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found there as well")
    parser.add_argument("--steps", type=int, default=5, help="measured in each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("SIZE", "ESTIMATOR", "BETA"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        size, estimator, beta = arguments.one
        print(json.dumps(measure(*shape(size), estimator, float(beta), arguments.steps)))
        return

    jobs = [(size, "dense", arguments.beta[0]) for size in arguments.dense]
    jobs += [(size, "window", beta) for beta in arguments.beta for size in arguments.sizes]
    found: dict[tuple[str, str, float], list[dict[str, float]]] = {job: [] for job in jobs}
    for _ in range(arguments.turns):
        for job in jobs:
            options = [f"--steps={arguments.steps}", "--one", *map(str, job)]
            output = subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE).stdout
            found[job].append(json.loads(output))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| samples x classes | beta | average | columns kept | seconds a step | ns an element | GB |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    rows: list[dict] = []
    for (size, estimator, beta), results in found.items():
        samples, classes = shape(size)
        middle = {key: statistics.median(result[key] for result in results) for key in results[0]}
        each, kept = middle["seconds"] / samples / classes * 1e9, f"{middle['rows']:,.0f}"
        rows.append({"samples": samples, "classes": classes, "estimator": estimator, "beta": beta, **middle})
        print(
            f"| {samples} x {classes:,} | {beta:g} | {estimator} | {kept} | {middle['seconds']:.3g} | {each:.3g} "
            f"| {middle['gigabytes']:.2f} |",
            flush=True,
        )
    if arguments.json:
        machine = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "processor": platform.processor() or platform.machine(),
        }
        machine |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "turns": arguments.turns}
        arguments.json.write_text(json.dumps(machine | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
