"""Losses of one class against the rest: binary cross-entropy and focal, on sigmoids or on a softmax."""

import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.losses.base import Loss, log_odds
from car_ext.methods.registry import register
from car_ext.priors import PerClass
from car_ext.values import check


def focal_term(odds: Tensor, gamma: float) -> Tensor:
    """`-(1 - p)^gamma log p` for p = sigmoid(odds), in log space: finite with finite slope for every gamma >= 0."""
    return -(gamma * F.logsigmoid(-odds)).exp() * F.logsigmoid(odds)


def against_the_rest(odds: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Every class as a problem of its own: (B, K) log-odds and label weights to (B,) sums of `focal_term`."""
    others = labels.sum(1, keepdim=True) - labels
    return (labels * focal_term(odds, gamma) + others * focal_term(-odds, gamma)).sum(1)


@register(
    "loss",
    "focal",
    title="Focal loss",
    source="Lin et al., ICCV 2017",
    formula="softmax: -(1 - p_y)^gamma log p_y; sigmoid: sum_k -(1 - q_k)^gamma log q_k, q_k = sigmoid(+-z_k)",
    published="CIFAR100-LT IR100 ResNet-32: 38.4 (as cited in LOS, ICLR 2025)",
    notes="p_y is the probability itself, also under class weights, where public code often takes exp(-weighted CE)",
)
class Focal(Loss):
    """Easy samples count less.

    Args:
        gamma: not negative; 0 is cross-entropy, 1 and 2 are usual.
        form: "softmax" as the field's re-implementations, "sigmoid" (summed over the classes) as the paper.
    """

    def __init__(self, class_counts: PerClass, reduction: str = "mean", *, gamma: float = 2.0, form: str = "softmax"):
        super().__init__(class_counts, reduction)
        check("gamma", gamma, 0 <= gamma < float("inf"), "finite and not negative")
        check("form", form, form in ("softmax", "sigmoid"), "'softmax' or 'sigmoid'")
        self.gamma, self.form = gamma, form

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        if self.form == "sigmoid":
            return against_the_rest(logits, labels, self.gamma)
        return (labels * focal_term(log_odds(logits), self.gamma)).sum(1)


class BinaryCrossEntropy(Loss):
    """Binary cross-entropy of every class against the rest.

    Args:
        form: "sigmoid": of `sigmoid(z_k)`, summed over the classes. "softmax": of the softmax probabilities, averaged
            over the classes, as the published code of weight balancing (Alshammari et al., CVPR 2022) trains.
    """

    def __init__(self, class_counts: PerClass, reduction: str = "mean", *, form: str = "sigmoid"):
        super().__init__(class_counts, reduction)
        check("form", form, form in ("softmax", "sigmoid"), "'softmax' or 'sigmoid'")
        self.form = form

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        if self.form == "sigmoid":
            return against_the_rest(logits, labels, gamma=0.0)
        return against_the_rest(log_odds(logits), labels, gamma=0.0) / logits.shape[1]
