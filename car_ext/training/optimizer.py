"""The optimiser of a job, and its learning rate at each step."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.models.classifier import Classifier

SCALE = "lr_scale"  # key of a group: what the learning rate is multiplied by for it, as timm calls it


def build_optimizer(config: Config, model: Classifier, *modules: torch.nn.Module) -> torch.optim.Optimizer:
    """Of every parameter of the modules that has a gradient: in one group, or as `layer_decay` and `decay_norm` say.

    Its update is one kernel, on a CPU and on CUDA, where it need not wait to hear whether the scaled loss overflowed.

    Raises:
        InputError: layers asked of a network that is not timm's.
    """
    everything = chain(*(module.parameters() for module in (model, *modules)))
    parameters: list[Any] = [parameter for parameter in everything if parameter.requires_grad]
    parameters = parameters or [torch.nn.Parameter(torch.empty(0))]  # a head that is not trained
    if config.layer_decay or not config.decay_norm:
        parameters = _groups(config, model, modules) or parameters
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
            fused=True,
        )
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def _groups(config: Config, model: Classifier, modules: Sequence[torch.nn.Module]) -> list[dict[str, Any]]:
    """The parameters that have a gradient in groups of timm: of one decay and, with `layer_decay`, of one layer."""
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay  # timm takes a second to import

    backbone: Any = model.backbone
    decay, without_1d = config.weight_decay, not config.decay_norm
    left_out = backbone.no_weight_decay() if without_1d and hasattr(backbone, "no_weight_decay") else ()
    if not config.layer_decay:
        groups = param_groups_weight_decay(backbone, decay, no_weight_decay_list=left_out)
    elif hasattr(backbone, "group_matcher"):
        groups = param_groups_layer_decay(
            backbone, decay, left_out, weight_decay_exclude_1d=without_1d, layer_decay=config.layer_decay
        )
    else:
        raise InputError(f"--layer-decay needs the layers of a timm model, which {config.model} is not; leave it out.")
    for module in (model.head, *modules):  # above all layers: at the full rate
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        groups += param_groups_weight_decay(module, decay) if without_1d else [{"params": weights}]
    return [group for group in groups if group["params"]]


def updates_per_epoch(batches: int, config: Config) -> int:
    """Steps of the optimiser in an epoch of so many batches."""
    return -(-batches // config.accumulate)


def part_of_update(batch: int, batches: int, config: Config) -> tuple[int, int]:
    """Which part of a step of the optimiser a batch of an epoch is, and of how many: fewer in the last step."""
    first = batch - batch % config.accumulate
    return batch - first, min(config.accumulate, batches - first)


def rate_of_step(step: int, steps: int, config: Config) -> float:
    """The learning rate of the optimiser's step `step` of the whole run, which has `steps` an epoch."""
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
    rest = steps - warmup_steps
    done = (step - warmup_steps) / rest if rest else 1.0
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2
