"""Regularizers of the classifier's weight alone: what is added to the loss, or done to the weight after an epoch."""

import torch
from torch import Tensor

from car_ext.errors import InputError
from car_ext.methods.registry import register
from car_ext.methods.regularizers.base import WeightRegularizer
from car_ext.values import check


class WeightBalancing(WeightRegularizer):
    """Weight decay and a bound on each class's weight norm (MaxNorm), for a second stage that trains the classifier.

    `decay / 2 * sum w^2` joins the loss. After each epoch `w_c <- w_c min(1, r / |w_c|)` with
    `r = min + thresh (max - min)` over the class norms |w_c| that the first call sees: those of the first stage, if
    that call is the penalty of the first step. The bias is free.
    Source: Alshammari et al., Long-Tailed Recognition via Weight Balancing, CVPR 2022.

    Args:
        decay: not negative. As SGD's weight_decay; set that to 0 for the classifier.
        thresh: where between the least and the largest norm the bound lies, in [0, 1].
        bound: whether there is one.

    Raises:
        InputError: an option out of range; from `after_epoch`, a bound of 0, which a head of zeros gives.
    """

    radius: Tensor

    def __init__(self, *, decay: float = 0.0, thresh: float = 0.1, bound: bool = True):
        super().__init__()
        check("decay", decay, 0 <= decay < float("inf"), "finite and not negative")
        check("thresh", thresh, 0 <= thresh <= 1, "in [0, 1]")
        self.decay, self.thresh, self.bound = decay, thresh, bound
        self.register_buffer("radius", torch.tensor(-1.0))  # not yet measured

    def penalty(self, weight: Tensor) -> Tensor:
        self._measure(weight)
        return self.decay / 2 * weight.square().sum()

    @torch.no_grad()
    def after_epoch(self, weight: Tensor) -> None:
        if not self.bound:
            return
        self._measure(weight)
        if not self.radius > 0:
            raise InputError("MaxNorm began with a weight of zeros, whose bound is 0: use it after a first stage")
        weight.mul_((self.radius / weight.norm(dim=1, keepdim=True)).clamp_max(1.0))

    @torch.no_grad()
    def _measure(self, weight: Tensor) -> None:
        least, largest = weight.norm(dim=1).aminmax()
        measured = least + self.thresh * (largest - least)
        self.radius.copy_(torch.where(self.radius < 0, measured, self.radius))  # no branch: the device need not wait


@register(
    "regularizer",
    "maxnorm",
    title="MaxNorm",
    source="Alshammari et al., CVPR 2022",
    formula="after each epoch w_c <- w_c min(1, r / |w_c|), r = min + thresh (max - min) of the first stage's |w_c|",
    published="CIFAR100-LT IR100 ResNet-34, second stage: 51.64 (LOS, ICLR 2025)",
    notes="for a second stage that trains only the classifier",
)
def max_norm(*, thresh: float = 0.1) -> WeightBalancing:
    """`WeightBalancing` without decay."""
    return WeightBalancing(thresh=thresh)


@register(
    "regularizer",
    "ltwb",
    title="Weight balancing",
    source="Alshammari et al., CVPR 2022",
    formula="decay / 2 sum w^2 in the loss, and MaxNorm after each epoch",
    published="CIFAR100-LT IR100/50/10 ResNet-34, second stage: 53.4 / 57.7 / 68.7",
    notes="for a second stage that trains only the classifier (loss cb_bce:form=softmax, rate 0.01, 10 epochs); "
    "the strong decay of the first stage, 5e-3, belongs to the optimizer; the bias is not decayed here",
)
def weight_balancing(*, decay: float = 0.1, thresh: float = 0.1, bound: bool = True) -> WeightBalancing:
    """`WeightBalancing` as published: strong decay of the classifier and MaxNorm."""
    return WeightBalancing(decay=decay, thresh=thresh, bound=bound)
