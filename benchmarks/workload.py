"""What the benchmarks run: batches of a long-tailed problem, and CAR beside its rivals."""

import functools
from collections.abc import Callable

import torch
from rivals import EagerCAR
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from car_ext import CAR

Batches = list[tuple[Tensor, Tensor]]
LARGEST_SVD = 1000  # classes; beyond, one SVD takes minutes


def class_counts(classes: int) -> Tensor:
    """1000 images of the first class down to 10 of the last."""
    return (1000 * 0.01 ** (torch.arange(classes) / (classes - 1))).int().clamp_min(1)


def batches(samples: int, classes: int, how_many: int = 8, seed: int = 0) -> Batches:
    """Logits of a half-trained network: the true class leads by a margin that varies."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(how_many):
        targets = torch.multinomial(class_counts(classes).double(), samples, replacement=True, generator=generator)
        logits = torch.randn(samples, classes, generator=generator)
        logits[torch.arange(samples), targets] += 4 * torch.rand(samples, generator=generator)
        made.append((logits, targets))
    return made


def contenders(classes: int, compiled: bool) -> dict[str, nn.Module]:
    """By name: "car_ext" and the keys of report.RIVALS that can run."""
    counts = class_counts(classes)
    found: dict[str, nn.Module] = {"car_ext": CAR(counts)}
    if classes <= LARGEST_SVD:
        found["(a)"] = EagerCAR(counts, 0)
    found["(b)"] = EagerCAR(counts, 4)
    if compiled:
        found["(c)"] = torch.compile(EagerCAR(counts, 4), dynamic=False)
    return found


def step(module: nn.Module, logits: Tensor, targets: Tensor) -> Tensor:
    """Value, moving average and gradient, which is returned."""
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(module(leaf, targets), leaf)[0]


def module_calls(module: nn.Module, data: Batches) -> list[Callable]:
    """A step on each batch."""
    return [functools.partial(step, module, *batch) for batch in data]


class Recorder(TorchDispatchMode):
    """Keeps the calls of car_step that pass, so that they can be made again without the module around them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.car_ext.car_step.default:
            self.calls.append(functools.partial(func, *args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def operator_calls(car: CAR, data: Batches) -> list[Callable]:
    """car_step on each batch, on the module's own state."""
    with Recorder() as recorder:
        for logits, targets in data:
            car(logits, targets)
    return recorder.calls


def shape(text: str) -> tuple[int, int]:
    """ "128x1000" -> (128, 1000), for argparse."""
    samples, classes = text.split("x")
    return int(samples), int(classes)
