"""The cosine classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.methods.registry import register


@register(
    "head",
    "cosine",
    title="Cosine classifier",
    source="as in LDAM, Cao et al., NeurIPS 2019",
    formula="scale * w_c . x / (|w_c| |x|)",
    published="retrained on a ResNet-34, CIFAR100-LT (imbalance ratio 100): 52.20",
)
class Cosine(nn.Module):
    """`scale` times the cosine between feature and class vector; no bias. Class vectors begin with norm one."""

    def __init__(self, in_features: int, num_classes: int, *_: object, scale: float = 30.0) -> None:
        super().__init__()
        if not 0 < scale < float("inf"):
            raise InputError(f"scale of head 'cosine' is {scale:g}: give a positive number")
        self.scale = scale
        self.weight = nn.Parameter(F.normalize(torch.empty(num_classes, in_features).uniform_(-1, 1)))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * cosines(features, self.weight)


def cosines(features: Tensor, weight: Tensor) -> Tensor:
    """Of each feature (N, D) with each class's weight (K, D), as (N, K)."""
    return F.linear(F.normalize(features), F.normalize(weight))
