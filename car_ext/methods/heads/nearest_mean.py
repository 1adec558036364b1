"""The nearest class mean."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.methods.heads.cosine import cosines
from car_ext.methods.registry import register
from car_ext.methods.sources import DECOUPLING

METRICS = ("cosine", "l2", "l2n", "centred")


@register(
    "head",
    "ncm",
    title="Nearest class mean (NCM)",
    source=DECOUPLING,
    formula="cos(x, m_c), or -|x - m_c|^2; with centred x is (x - m) / |x - m|, m the mean feature",
    published="ImageNet-LT, ResNeXt-50, metric=centred: 47.3",
)
class NearestClassMean(nn.Module):
    """Logits that are largest for the class whose mean feature is nearest. `weight` is the means, NaN until `fit`.

    Args:
        metric: "cosine", or "l2": then the logits are `-|x - m_c|^2 + |x|^2`; what was added is the same for every
            class, so that neither softmax nor argmax sees it. "l2n": the same of features of norm one. "centred": of
            features less the mean of all training features, and then of norm one (CL2N; what the authors' code does
            by default).

    Raises:
        InputError: another metric.
    """

    weight: Tensor
    centre: Tensor

    def __init__(self, in_features: int, num_classes: int, *_: object, metric: str = "cosine") -> None:
        super().__init__()
        if metric not in METRICS:
            raise InputError(f"metric of head 'ncm' is {metric!r}: give {', '.join(METRICS)}")
        self.metric = metric
        if metric == "centred":
            self.register_buffer("centre", torch.full((in_features,), torch.nan))
        self.register_buffer("weight", torch.full((num_classes, in_features), torch.nan))

    @torch.no_grad()
    def fit(self, features: Tensor, targets: Tensor) -> "NearestClassMean":
        """Take the class means of features (N, D), float, with targets (N,), int64; returns itself.

        Raises:
            InputError: a class without a feature.
        """
        # On the CPU the order of the sums, and so their rounding, is always the same.
        features, targets = features.double().cpu(), targets.cpu()
        counts = targets.bincount(minlength=len(self.weight))
        if not counts.all():
            raise InputError(f"class {int(counts.argmin())} has no feature to take a mean of: give all training images")
        if self.metric == "centred":
            self.centre.copy_(features.mean(dim=0))
            features = features - features.mean(dim=0)
        if self.metric in ("l2n", "centred"):
            features = F.normalize(features)
        sums = features.new_zeros(self.weight.shape).index_add_(0, targets, features)
        self.weight.copy_(sums / counts[:, None])
        return self

    def forward(self, features: Tensor) -> Tensor:
        if self.metric == "cosine":
            return cosines(features, self.weight)
        if self.metric == "centred":
            features = features - self.centre
        if self.metric != "l2":
            features = F.normalize(features)
        return F.linear(features, 2 * self.weight, -self.weight.square().sum(dim=1))
