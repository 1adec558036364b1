#!/usr/bin/env python
"""Time a CAR step (forward, gradient, moving average) on the CPU against the same thing in plain PyTorch.

Everything runs in one process, interleaved, and medians are compared: on a shared machine only the ratios mean much.
The rivals are the authors' way (full SVD), four power iterations, and torch.compile of the latter. The floor is what no
implementation of these formulas can avoid: two exponentials an element, and the average's bytes read and written once.
*operator* is one call of car_step, which gives value, gradient and average; *module* is CAR with autograd, as trainings
use it. The last three columns say how many times as long as the operator the rivals take and, in brackets, as the
module; the rivals' gradients come from autograd. Freed memory is kept, as in trainings. Below the table: what CAR adds
to a training step of a ResNet-32 on 32-pixel images, what such a step saves by keeping memory, and the memory of CAR's
state.
"""

import argparse
import datetime
import platform
from pathlib import Path

import torch
import workload
from clock import Spread, Work, captured, in_turns
from report import RIVALS
from torch.nn import functional as F

from car_ext import CAR
from car_ext.machine.memory import keep_freed_memory
from car_ext.models.classifier import build_model

SHAPES = [(128, 10), (128, 100), (128, 1000), (1024, 1000), (128, 8142)]
LARGEST = max(classes for _, classes in SHAPES)


def measure(samples: int, classes: int, budget: float, compiled: bool) -> dict[str, Spread]:
    """Seconds a step of each contender and of the floor; in a turn each takes all batches, so that all are as warm."""
    data = workload.batches(samples, classes)
    calls = {"operator": workload.operator_calls(CAR(workload.class_counts(classes)), data)}
    for name, module in workload.contenders(classes, compiled).items():
        for batch in data[:3]:
            workload.step(module, *batch)
        calls[name] = workload.module_calls(module, data)
    calls["floor"] = [floor(samples, classes)] * len(data)
    with keep_freed_memory():
        return in_turns({name: captured(steps, "cpu") for name, steps in calls.items()}, "cpu", budget, least=3)


def floor(samples: int, classes: int):
    """Two exponentials an element and one read and write of the (K, K) average, both by PyTorch."""
    logits, average = torch.randn(samples, classes), torch.rand(classes, classes)
    out = torch.empty_like(logits)

    def run() -> None:
        torch.exp(logits, out=out)
        torch.exp(logits, out=out)
        average.mul_(0.5)

    return run


def training_step(samples: int = 128, classes: int = 100):
    """One step of a ResNet-32 without CAR, for 32-pixel images."""
    network = build_model("cifar_resnet32", workload.class_counts(classes), 32, 3, [0.5] * 3, [0.25] * 3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images = torch.randint(0, 256, (samples, 32, 32, 3), dtype=torch.uint8)
    _, targets = workload.batches(samples, classes, 1)[0]

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), targets).backward()
        optimizer.step()

    return run


def share_of_a_training_step(budget: float, samples: int = 128, classes: int = 100) -> str:
    car, data = CAR(workload.class_counts(classes)), workload.batches(samples, classes)
    work = {"step": Work(training_step(samples, classes)), "car": captured(workload.module_calls(car, data), "cpu")}
    with keep_freed_memory():
        found = in_turns(work, "cpu", budget)
    step, alone = found["step"].median, found["car"].median
    found = f"a step {step * 1e3:.0f} ms, CAR {alone * 1e3:.3f} ms: {alone / step:.2%}"
    return f"ResNet-32, {samples} images, {classes} classes: {found}"


def what_keeping_memory_saves(budget: float, steps: int = 3) -> str:
    """The first step of each turn fills the memory anew, so a long training saves a little more than this."""
    step = training_step()

    def run() -> None:
        for _ in range(steps):
            step()

    def run_keeping() -> None:
        with keep_freed_memory():
            run()

    found = in_turns({"freed": Work(run, steps), "kept": Work(run_keeping, steps)}, "cpu", budget, least=1)
    freed, kept = found["freed"].median, found["kept"].median
    return f"The same step {freed * 1e3:.0f} ms where memory is given back, {kept * 1e3:.0f} ms where it is kept"


def state_size(classes: int) -> str:
    size = sum(buffer.numel() * buffer.element_size() for buffer in CAR(torch.ones(classes)).buffers())
    return f"State of {classes} classes: {size / 1e9:.2f} GB"


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
        "| B, K | operator, ms | module, ms | floor, ms | " + " | ".join(f"{k} {v}" for k, v in RIVALS.items()) + " |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines))
    for samples, classes in arguments.shapes:
        found = measure(samples, classes, arguments.seconds, not arguments.no_compile)
        ours = [found[name].median for name in ("operator", "car_ext")]
        cells = [f"{seconds * 1e3:.3f}" for seconds in (*ours, found["floor"].median)]
        for key in RIVALS:
            times = [f"{found[key].median / seconds:.1f}x" for seconds in ours] if key in found else []
            cells.append(f"{times[0]} ({times[1]})" if times else "-")
        lines.append(f"| {samples}, {classes} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += ["", share_of_a_training_step(arguments.seconds), what_keeping_memory_saves(arguments.seconds)]
    lines += [state_size(LARGEST)]
    print("\n".join(lines[-4:]))
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
