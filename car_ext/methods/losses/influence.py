"""Influence-balanced loss: samples that pull hardest on the classifier count less."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.losses.base import Loss, log_odds
from car_ext.methods.registry import register
from car_ext.priors import PerClass
from car_ext.values import check

EPSILON = 1e-3  # of the authors' code: bounds the weight of a sample that is fitted perfectly


@register(
    "loss",
    "ib",
    title="Influence-balanced loss",
    source="Park et al., ICCV 2021",
    formula="w_y CE alpha / (sum_k |p_k - [k = y]| ||h||_1 + 1e-3), w_c ~ 1 / n_c, mean 1; CE before start_epoch",
    notes="as the authors' code: alpha 1000, gradient through the weight; its recipe divides the learning rate by 100 "
    "at start_epoch and twice more: --schedule step --step-epochs 100,160,180 --step-factor 0.01",
)
class InfluenceBalanced(Loss):
    """Cross-entropy divided by its influence on the classifier, after a first phase of plain cross-entropy.

    `||p - e_y||_1 ||h||_1` is the L1 norm of the gradient by the classifier's weights, h the features it saw. The
    gradient flows through the weight, as in the authors' code.

    Args:
        alpha: overall factor, positive.
        start_epoch: the first epoch with weights, from 1; None: the second half of the epochs, as published. Follows
            `set_epoch`; before its first call only `start_epoch=1` is on.
    """

    class_weights: Tensor

    needs_features = True

    def __init__(
        self, class_counts: PerClass, reduction: str = "mean", *, alpha: float = 1000.0, start_epoch: int | None = None
    ):
        super().__init__(class_counts, reduction)
        check("alpha", alpha, 0 < alpha < float("inf"), "finite and positive")
        check("start_epoch", start_epoch, start_epoch is None or start_epoch >= 1, "an epoch from 1 on")
        self.alpha, self.start_epoch = alpha, start_epoch
        self.active = start_epoch == 1
        weights = 1 / self.class_counts.double()
        self.register_buffer("class_weights", (weights / weights.mean()).float(), persistent=False)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self.active = 2 * epoch > epochs if self.start_epoch is None else epoch >= self.start_epoch

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        if not self.active:
            return F.cross_entropy(logits, labels, reduction="none")
        seen: Any = features  # never None: `forward` sees to it
        odds = log_odds(logits)
        distance = 2 * (-odds).sigmoid()  # sum_k |p_k - [k = y]| = 2 (1 - p_y)
        influence = distance * seen.abs().sum(1, keepdim=True)
        weights = self.alpha * self.class_weights / (influence + EPSILON)
        return -(labels * weights * F.logsigmoid(odds)).sum(1)
