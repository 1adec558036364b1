"""The nearest class mean."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.methods.heads.cosine import cosines
from car_ext.methods.registry import register
from car_ext.methods.sources import DECOUPLING


@register(
    "head",
    "ncm",
    title="Nearest class mean (NCM)",
    source=DECOUPLING,
    formula="cos(x, m_c), or -|x - m_c|^2",
    published="ImageNet-LT, ResNeXt-50: 47.3",
)
class NearestClassMean(nn.Module):
    """Logits that are largest for the class whose mean feature is nearest. `weight` is the means, NaN until `fit`.

    `metric`: "cosine", or "l2": then the logits are -|x - m_c|^2 + |x|^2; what was added is the same for every
    class, so that neither softmax nor argmax sees it.
    """

    weight: Tensor

    def __init__(self, in_features: int, num_classes: int, *_: object, metric: str = "cosine") -> None:
        super().__init__()
        if metric not in ("cosine", "l2"):
            raise InputError(f"metric of head 'ncm' is {metric!r}: give cosine or l2")
        self.metric = metric
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
        sums = features.new_zeros(self.weight.shape).index_add_(0, targets, features)
        self.weight.copy_(sums / counts[:, None])
        return self

    def forward(self, features: Tensor) -> Tensor:
        if self.metric == "cosine":
            return cosines(features, self.weight)
        return F.linear(features, 2 * self.weight, -self.weight.square().sum(dim=1))
