"""Cross-entropy, with labels as they are or smoothed."""

import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.losses.base import Loss
from car_ext.methods.registry import register
from car_ext.priors import PerClass
from car_ext.values import check


@register(
    "loss",
    "ce",
    title="Cross-entropy",
    source="label smoothing: Szegedy et al., CVPR 2016",
    formula="-log p_y, p = softmax(z); smoothing s: target (1 - s) e_y + s / K",
    published="CIFAR100-LT IR100 ResNet-32: 38.3 (as cited in LOS, ICLR 2025)",
)
class CrossEntropy(Loss):
    """`-sum_k t_k log p_k` with `t = (1 - s) e_y + s / K`.

    Args:
        smoothing: s, in [0, 1].
    """

    def __init__(self, class_counts: PerClass, reduction: str = "mean", *, smoothing: float = 0.0):
        super().__init__(class_counts, reduction)
        check("smoothing", smoothing, 0 <= smoothing <= 1, "in [0, 1]")
        self.smoothing = smoothing

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        smooth = (1 - self.smoothing) * labels + self.smoothing * labels.mean(1, keepdim=True)
        return F.cross_entropy(logits, smooth, reduction="none")


@register(
    "loss",
    "los",
    title="Label over-smoothing",
    source="Label Over-Smoothing, ICLR 2025",
    formula="CE with target (1 - s) e_y + s / K, s = 0.98",
    published="CIFAR100-LT IR100/50/10 ResNet-34, second stage: 54.9 / 58.8 / 69.7",
    notes="made for re-training the classifier on frozen features; s = 0.99 on ImageNet-LT and iNaturalist",
)
def label_over_smoothing(class_counts: PerClass, reduction: str = "mean", *, smoothing: float = 0.98) -> CrossEntropy:
    """`CrossEntropy` with so much smoothing that the true class keeps only `1 - s + s / K`."""
    return CrossEntropy(class_counts, reduction, smoothing=smoothing)
