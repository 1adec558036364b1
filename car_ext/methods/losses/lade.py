"""LADE: logit adjustment and an estimate that takes the label prior out of the logits."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.losses.base import Loss
from car_ext.methods.registry import register
from car_ext.priors import PerClass
from car_ext.values import check


@register(
    "loss",
    "lade",
    title="Label distribution disentangling",
    source="Hong et al., CVPR 2021",
    formula="CE(z + log pi, y) - alpha sum_c pi_c (mean_{y=c} z_c - L_c - lam L_c^2), L_c = log mean e^(z_c)/(K pi_c)",
    notes="test with z for a uniform target; alpha 0.1 and lam 0.01 on CIFAR100-LT IR100, 0.05 and 0.5 on "
    "ImageNet-LT, 0.005 and 0.1 on Places-LT, 0.05 and 0.1 on iNaturalist 2018",
)
class LADE(Loss):
    """Cross-entropy of `z + log pi` and the regularized Donsker-Varadhan bound of each class.

    The bound couples the batch: it is the same addend in every sample's loss, and a mixed label enters the mean of
    `z_c` with its weight (`mean_{y=c}` is 0 for a class without weight).

    Args:
        alpha: weight of the bound, not negative.
        lam: weight of its regularizer, not negative.
    """

    additive = False

    def __init__(self, class_counts: PerClass, reduction: str = "mean", *, alpha: float = 0.1, lam: float = 0.1):
        super().__init__(class_counts, reduction)
        check("alpha", alpha, 0 <= alpha < float("inf"), "finite and not negative")
        check("lam", lam, 0 <= lam < float("inf"), "finite and not negative")
        self.alpha, self.lam = alpha, lam

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        samples, classes = logits.shape
        mass = labels.sum(0)
        own = (labels * logits).sum(0) / torch.where(mass > 0, mass, 1.0)
        everyone = (logits - self.priors.log() - math.log(classes)).logsumexp(0) - math.log(samples)
        bound = (self.priors * (own - everyone - self.lam * everyone**2)).sum()
        return F.cross_entropy(logits + self.priors.log(), labels, reduction="none") - self.alpha * bound
