"""CCAR: a weight from the class's frequency and the sample's confidence, on any base loss."""

import torch
from torch import Tensor

from car_ext.methods.losses.base import Loss, check_additive
from car_ext.methods.registry import build, register
from car_ext.priors import PerClass
from car_ext.values import check


@register(
    "loss",
    "ccar",
    title="Class-confidence aware re-weighting",
    source="Jagati et al., arXiv 2601.15924, 2026",
    formula="Omega L_base, Omega = exp(-f (omega - p_y)), f = pi_y if p_y < omega else 1 - pi_y",
    published="ImageNet-LT ResNet-50: CE 41.60 -> 45.62; with logit adjustment 52.76",
    notes="the paper is silent on which logits give p_y under another base: the raw ones here",
)
class CCAR(Loss):
    """`Omega * base` with `p = softmax(z)` of the raw logits; the gradient flows through Omega.

    On cross-entropy the gradient is `Psi (p - e_y)`, `Psi = Omega (1 + p_y f ln p_y)`. Omega is continuous at the
    pivot, Psi is not. Omega is at most 1 below the pivot and at least 1 above: confident samples gain, and rare classes
    more than frequent ones.

    Args:
        base: a loss of the registry, as a word such as `logit_adjusted:tau=1.5`.
        omega: the pivot, in [0, 1].

    Raises:
        InputError: an option out of range, or a base that couples the samples of a batch.
    """

    def __init__(self, class_counts: PerClass, reduction: str = "mean", *, base: str = "ce", omega: float = 0.75):
        super().__init__(class_counts, reduction)
        check("omega", omega, 0 <= omega <= 1, "in [0, 1]")
        self.omega = omega
        self.base: Loss = build("loss", base, class_counts)
        check_additive(self.base, "ccar")
        self.needs_features, self.cosine_logits = self.base.needs_features, self.base.cosine_logits
        self.weighted_mean = self.base.weighted_mean

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self.base.set_epoch(epoch, epochs)

    def total_weight(self, labels: Tensor) -> Tensor:
        return self.base.total_weight(labels)

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        p = logits.softmax(1)
        rate = torch.where(p < self.omega, self.priors, 1 - self.priors)
        return self.base.per_sample(logits, labels * (rate * (p - self.omega)).exp(), features)
