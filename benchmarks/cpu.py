#!/usr/bin/env python
"""Time a CAR step (forward, gradient, moving average) on the CPU against the same thing in plain PyTorch.

Everything runs in one process, interleaved, and medians are compared: on a shared machine only the ratios mean much.
The rivals are the authors' way (full SVD), four power iterations, and torch.compile of the latter. The floor is what no
implementation of these formulas can avoid: two exponentials an element, and the average's bytes read and written once.
The last three columns are how many times as long the rivals take.
"""

import argparse
import datetime
import functools
import itertools
import platform
from pathlib import Path

import torch
import workload
from clock import Spread, Work, in_turns
from report import RIVALS

SHAPES = [(128, 10), (128, 100), (128, 1000), (1024, 1000), (128, 8142)]


def measure(samples: int, classes: int, budget: float, compiled: bool) -> dict[str, Spread]:
    """Seconds a step of each contender and of the floor."""
    data = workload.batches(samples, classes)
    work = {}
    for name, module in workload.contenders(classes, compiled).items():
        for batch in data[:3]:
            workload.step(module, *batch)
        work[name] = Work(functools.partial(next_step, module, itertools.cycle(data)))
    work["floor"] = Work(floor(samples, classes))
    return in_turns(work, "cpu", budget)


def next_step(module: torch.nn.Module, data: itertools.cycle) -> None:
    workload.step(module, *next(data))


def floor(samples: int, classes: int):
    """Two exponentials an element and one read and write of the (K, K) average, both by PyTorch."""
    logits, average = torch.randn(samples, classes), torch.rand(classes, classes)
    out = torch.empty_like(logits)

    def run() -> None:
        torch.exp(logits, out=out)
        torch.exp(logits, out=out)
        average.mul_(0.5)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="for each shape (%(default)s)")
    parser.add_argument("--shapes", type=workload.shape, nargs="+", default=SHAPES, metavar="BxK", help="e.g. 128x1000")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(%(default)s)")
    parser.add_argument("--no-compile", action="store_true", help="leave rival (c) out")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="also write the table here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    lines = [
        f"{datetime.date.today()}, torch {torch.__version__}, {arguments.threads} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, {platform.machine()}; medians, interleaved",
        "",
        "| B, K | car_ext, ms | floor, ms | " + " | ".join(f"{k} {v}" for k, v in RIVALS.items()) + " |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    for samples, classes in arguments.shapes:
        found = measure(samples, classes, arguments.seconds, not arguments.no_compile)
        ours = found["car_ext"].median
        cells = [f"{ours * 1e3:.3f}", f"{found['floor'].median * 1e3:.3f}"]
        cells += [f"{found[key].median / ours:.1f}x" if key in found else "-" for key in RIVALS]
        lines.append(f"| {samples}, {classes} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
