"""Geometric-mean loss: the classes' mean probabilities multiply, so none of them can be given up."""

import torch
from torch import Tensor

from car_ext.methods.losses.base import Loss
from car_ext.methods.registry import register


@register(
    "loss",
    "gml_nolb",
    title="Geometric-mean loss (no one left behind)",
    source="Du and Wu, CVPR 2023",
    formula="-(1 / |present|) sum_c log mean_{q: y = c} softmax(z + log n)_c over the classes present in the batch",
    published="CIFAR100-LT IR100 / ImageNet-LT ViT-S from scratch: 50.23 / 55.24 (as cited in arXiv 2603.16732)",
    notes="made to re-train a head on frozen features; averaging it with the old head is not part of the loss. Not the "
    "GML of Suh and Seo, ICML 2023",
)
class GeometricMean(Loss):
    """Negative log of the geometric mean over classes of the arithmetic mean probability of their samples.

    Couples the batch. With reduction "none" each sample carries its class's share, so that the mean is the loss. A
    mixed label enters the means of its classes with its weights.
    """

    additive = False

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        log_p = (logits + self.class_counts.log()).log_softmax(1)
        mass, present = labels.sum(0), labels.sum(0) > 0
        mass = torch.where(present, mass, 1.0)
        tiny = torch.finfo(labels.dtype).tiny
        members = (log_p + labels.clamp_min(tiny).log()).masked_fill(labels == 0, -torch.inf)
        log_mean = torch.where(present, members.logsumexp(0) - mass.log(), 0.0)
        share = labels * len(labels) / (mass * present.sum())
        return -(share * log_mean).sum(1)
