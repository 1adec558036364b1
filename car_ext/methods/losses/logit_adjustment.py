"""Logit adjustment and Balanced Softmax: the prior enters the softmax in training and leaves it at test time."""

import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.losses.base import Loss
from car_ext.methods.registry import register
from car_ext.priors import PerClass
from car_ext.values import check


@register(
    "loss",
    "logit_adjusted",
    title="Logit-adjusted loss",
    source="Menon et al., ICLR 2021",
    formula="CE(z + tau log pi, y), pi_c = n_c / N; test with z",
    published="CIFAR10-LT / CIFAR100-LT IR100 ResNet-32: 77.89 / 44.06 (authors' repository)",
)
class LogitAdjusted(Loss):
    """Cross-entropy of `z + tau log pi`; predict with the plain `z`.

    Args:
        tau: not negative; 0 is cross-entropy, 1 Balanced Softmax.
    """

    def __init__(self, class_counts: PerClass, reduction: str = "mean", *, tau: float = 1.0):
        super().__init__(class_counts, reduction)
        check("tau", tau, 0 <= tau < float("inf"), "finite and not negative")
        self.tau = tau

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.cross_entropy(logits + self.tau * self.priors.log(), labels, reduction="none")


@register(
    "loss",
    "balanced_softmax",
    title="Balanced Softmax",
    source="Ren et al., NeurIPS 2020",
    formula="CE(z + log n, y); test with z",
    published="CIFAR100-LT IR100 / IR10 ResNet-32, AutoAugment and Cutout: 50.8 / 63.0",
    notes="without the paper's meta sampler; 46.3 (IR100) with plain augmentation (as cited in LWR, BMVC 2023)",
)
def balanced_softmax(class_counts: PerClass, reduction: str = "mean") -> LogitAdjusted:
    """`LogitAdjusted` with tau = 1: log n and log pi differ by a constant, which a softmax does not see."""
    return LogitAdjusted(class_counts, reduction)
