"""The optimiser of a job, and its learning rate at each step."""

import math
from collections.abc import Sequence
from itertools import chain

import torch

from car_ext.config.config import Config


def build_optimizer(config: Config, *modules: torch.nn.Module) -> torch.optim.Optimizer:
    """Of every parameter of the modules that has a gradient, in one group."""
    everything = chain(*(module.parameters() for module in modules))
    parameters = [parameter for parameter in everything if parameter.requires_grad]
    parameters = parameters or [torch.nn.Parameter(torch.empty(0))]  # a head that is not trained
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
        )
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)


def rate_of_step(step: int, steps: int, config: Config) -> float:
    """The learning rate of step `step` of the whole run, which has `steps` an epoch."""
    drops = [epochs * steps for epochs in config.drop_epochs]
    warmup, end = config.warmup_epochs * steps, config.epochs * steps
    floor = config.lr if config.schedule == "constant" else config.min_lr
    return learning_rate(step, end, warmup, config.lr, floor, drops, config.step_factor)


def learning_rate(
    step: int,
    steps: int,
    warmup_steps: float,
    peak: float,
    floor: float,
    drops: Sequence[int] = (),
    factor: float = 1.0,
) -> float:
    """Rate of optimiser step `step` (0 .. `steps` - 1), between 0 and `peak`.

    The first `warmup_steps` rise in a straight line to `peak`; the rest follow half a cosine towards
    `floor`, which the step after the last would reach. With `drops` they stay at `peak` instead, times
    `factor` from each of these steps on.
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if drops:
        return peak * factor ** sum(step >= drop for drop in drops)
    done = (step - warmup_steps) / (steps - warmup_steps)
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2
