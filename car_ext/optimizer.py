"""The optimiser of a job, and its learning rate at each step."""

from itertools import chain

import torch

from car_ext.config import Config
from car_ext.schedule import learning_rate


def build_optimizer(config: Config, *modules: torch.nn.Module) -> torch.optim.Optimizer:
    """Of every parameter of the modules that has a gradient, in one group."""
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    everything = chain(*(module.parameters() for module in modules))
    parameters = [parameter for parameter in everything if parameter.requires_grad]
    parameters = parameters or [torch.nn.Parameter(torch.empty(0))]  # a head that is not trained
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, **options)
    return torch.optim.AdamW(parameters, **options)


def rate_of_step(step: int, steps: int, config: Config) -> float:
    """The learning rate of step ``step`` of the whole run, which has ``steps`` an epoch."""
    drops = [epochs * steps for epochs in config.drop_epochs]
    warmup, end = config.warmup_epochs * steps, config.epochs * steps
    return learning_rate(step, end, warmup, config.lr, config.min_lr, drops, config.step_factor)
