#!/usr/bin/env python
"""Time a CAR step (forward, gradient, moving average) on the CPU against the same thing in plain PyTorch.

Everything runs in one process, interleaved, and medians are compared: on a shared machine only the ratios mean much.
The rivals are the authors' way (full SVD), four power iterations, and torch.compile of the latter. The floor is what no
implementation of these formulas can avoid: two exponentials an element, and the average's bytes read and written once.
The last three columns are how many times as long the rivals take. Below the table: what CAR adds to a training step of
a ResNet-32 on 32-pixel images, and the memory of its state.
"""

import argparse
import datetime
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from rivals import EagerCAR

from car_ext import CAR
from car_ext.models import build_model

SHAPES = [(128, 10), (128, 100), (128, 1000), (1024, 1000), (128, 8142)]
IN_A_ROW = 8  # steps of one contender before the next one's turn, which begins with cold caches
LARGEST = max(classes for _, classes in SHAPES)
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
    while time.perf_counter() < end or turn < 2:
        for name, module in modules.items():
            for offset in range(IN_A_ROW):
                times[name].append(one_step(module, *data[(turn + offset) % len(data)]))
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


def share_of_a_training_step(seconds: float, samples: int = 128, classes: int = 100) -> tuple[float, float]:
    """Median seconds of a ResNet-32 step without CAR and of CAR alone, interleaved."""
    counts = (500 * 0.01 ** (torch.arange(classes) / (classes - 1))).int()
    network = build_model("cifar_resnet32", counts, 32, 3, [0.5] * 3, [0.25] * 3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    car, data = CAR(counts), batches(samples, classes)
    images = torch.randint(0, 256, (samples, 32, 32, 3), dtype=torch.uint8)
    steps, alone = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(steps) < 5:
        logits, targets = data[len(steps) % len(data)]
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(network(images), targets).backward()
        optimizer.step()
        steps.append(time.perf_counter() - start)
        alone.append(one_step(car, logits, targets))
    return statistics.median(steps), statistics.median(alone)


def state_bytes(classes: int) -> int:
    return sum(buffer.numel() * buffer.element_size() for buffer in CAR(torch.ones(classes)).buffers())


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
    step, alone = share_of_a_training_step(arguments.seconds)
    lines += [
        "",
        f"ResNet-32, batch 128, 100 classes: a step {step * 1e3:.0f} ms, CAR {alone * 1e3:.3f} ms: {alone / step:.2%}",
        f"State of {LARGEST} classes: {state_bytes(LARGEST) / 1e9:.2f} GB",
    ]
    print("\n".join(lines[-3:]))
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
