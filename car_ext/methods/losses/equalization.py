"""Softmax equalization loss: rare classes are spared most of the push that other classes' samples give them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.losses.base import Loss
from car_ext.methods.registry import register
from car_ext.priors import PerClass
from car_ext.values import check


@register(
    "loss",
    "equalization",
    title="Softmax equalization loss",
    source="Tan et al., CVPR 2020, Sec. 3.4",
    formula="-log(e^(z_y) / sum_k w_k e^(z_k)), w_k = 1 - b [pi_k < threshold] (1 - [k = y]), b ~ Bernoulli(gamma)",
    notes="b is drawn for every sample and class; threshold 0.005 suits CIFAR100-LT, many classes need a smaller one",
)
class Equalization(Loss):
    """Cross-entropy whose denominator leaves out rare wrong classes, each with probability gamma.

    The random choice is made anew in each call, from torch's default generator or the one given: the same seed gives
    the same bits on the same device.

    Args:
        gamma: probability of leaving a rare class out, in [0, 1].
        threshold: a class is rare if its share of the training images is below, in [0, 1].
        generator: on the logits' device. torch.compile(fullgraph=True) takes none.
    """

    rare: Tensor

    def __init__(
        self,
        class_counts: PerClass,
        reduction: str = "mean",
        *,
        gamma: float = 0.9,
        threshold: float = 5e-3,
        generator: torch.Generator | None = None,
    ):
        super().__init__(class_counts, reduction)
        check("gamma", gamma, 0 <= gamma <= 1, "in [0, 1]")
        check("threshold", threshold, 0 <= threshold <= 1, "in [0, 1]")
        self.gamma, self.generator = gamma, generator
        self.register_buffer("rare", self.priors < threshold, persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        chance = torch.rand(logits.shape, device=logits.device, generator=self.generator)
        spared = self.rare & (chance < self.gamma)
        # The denominator without the spared classes; a spared class still stands in its own.
        odds = logits - logits.masked_fill(spared, -torch.inf).logsumexp(1, keepdim=True)
        return -(labels * torch.where(spared, F.logsigmoid(odds), odds)).sum(1)
