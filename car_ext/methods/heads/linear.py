"""The linear classifier, new or trained on."""

import copy

from torch import nn

from car_ext.methods.heads.base import finished_head
from car_ext.methods.registry import register
from car_ext.methods.sources import DECOUPLING
from car_ext.priors import PerClass


@register(
    "head",
    "linear",
    title="Linear classifier",
    source="standard; retrained on a frozen backbone: cRT, " + DECOUPLING,
    formula="w_c . x + b_c",
    published="cRT, ImageNet-LT, ResNeXt-50: 49.6",
)
def _linear(in_features: int, num_classes: int, *_: object) -> nn.Linear:
    return nn.Linear(in_features, num_classes)


@register(
    "head",
    "finished",
    title="The finished head, trained on",
    source="as in LOS, Sun et al., ICLR 2025",
    formula="what it was, w_c . x + b_c for a linear one",
)
def _trained_on(in_features: int, num_classes: int, class_counts: PerClass, init: nn.Module | None = None) -> nn.Module:
    return copy.deepcopy(finished_head(init, "finished")).requires_grad_()
