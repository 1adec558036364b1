#!/usr/bin/env python
"""Time a CAR step (forward, gradient, moving average) on the CPU against the same thing in plain PyTorch.

Everything runs in one process, interleaved, and medians are compared: on a shared machine only the ratios mean much.
The rivals are the authors' way (full SVD), four power iterations, and torch.compile of the latter. The floor is what no
implementation of these formulas can avoid: two exponentials an element, and the average's bytes read and written once.
The last three columns are how many times as long the rivals take.
"""

import argparse
import datetime
import platform
import statistics
import time
from pathlib import Path

import torch
from rivals import EagerCAR

from car_ext import CAR

SHAPES = [(128, 10), (128, 100), (128, 1000), (1024, 1000), (128, 8142)]
LARGEST_SVD = 1000  # classes; beyond, one SVD takes minutes


def contenders(classes: int, counts: torch.Tensor, compiled: bool) -> dict[str, torch.nn.Module]:
    found = {"car_ext": CAR(counts)}
    if classes <= LARGEST_SVD:
        found["(a) full SVD"] = EagerCAR(counts, 0)
    found["(b) 4 power iterations"] = EagerCAR(counts, 4)
    if compiled:
        found["(c) compiled (b)"] = torch.compile(EagerCAR(counts, 4))
    return found


def batches(samples: int, classes: int, how_many: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Logits of a half-trained network: the true class leads by a margin that varies."""
    generator = torch.Generator().manual_seed(0)
    frequency = 0.01 ** (torch.arange(classes) / (classes - 1))
    made = []
    for _ in range(how_many):
        targets = torch.multinomial(frequency, samples, replacement=True, generator=generator)
        logits = torch.randn(samples, classes, generator=generator)
        logits[torch.arange(samples), targets] += 4 * torch.rand(samples, generator=generator)
        made.append((logits, targets))
    return made


def one_step(module: torch.nn.Module, logits: torch.Tensor, targets: torch.Tensor) -> float:
    leaf = logits.detach().requires_grad_()
    start = time.perf_counter()
    module(leaf, targets).backward()
    return time.perf_counter() - start


def measure(samples: int, classes: int, seconds: float, compiled: bool) -> dict[str, float]:
    """Median seconds of each contender."""
    counts = (1000 * 0.01 ** (torch.arange(classes) / (classes - 1))).int().clamp_min(1)
    modules, data = contenders(classes, counts, compiled), batches(samples, classes)
    times: dict[str, list[float]] = {name: [] for name in modules}
    for module in modules.values():
        for logits, targets in data[:3]:
            one_step(module, logits, targets)
    end, turn = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or turn < 5:
        for name, module in modules.items():
            times[name].append(one_step(module, *data[turn % len(data)]))
        turn += 1
    return {name: statistics.median(values) for name, values in times.items()}


def floor(samples: int, classes: int, repeats: int = 15) -> float:
    """Seconds for two exponentials an element and one read and write of the (K, K) average, both by PyTorch."""
    logits, average = torch.randn(samples, classes), torch.rand(classes, classes)
    out, times = torch.empty_like(logits), []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.exp(logits, out=out)
        torch.exp(logits, out=out)
        average.mul_(0.5)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="for each shape (%(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(%(default)s)")
    parser.add_argument("--no-compile", action="store_true", help="leave rival (c) out")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="also write the table here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    lines = [
        f"{datetime.date.today()}, torch {torch.__version__}, {arguments.threads} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, {platform.machine()}; medians, interleaved",
        "",
        "| B, K | car_ext, ms | floor, ms | (a) full SVD | (b) 4 power iterations | (c) compiled (b) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    for samples, classes in SHAPES:
        found = measure(samples, classes, arguments.seconds, not arguments.no_compile)
        ours = found.pop("car_ext")
        ratios = {name[:3]: f"{seconds / ours:.1f}x" for name, seconds in found.items()}
        cells = [f"{ours * 1e3:.3f}", f"{floor(samples, classes) * 1e3:.3f}"]
        cells += [ratios.get(key, "-") for key in ("(a)", "(b)", "(c)")]
        lines.append(f"| {samples}, {classes} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
