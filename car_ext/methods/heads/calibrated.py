"""Heads that calibrate a finished one: LWS and DisAlign."""

from torch import Tensor, nn

from car_ext.methods.heads.base import OnFinished
from car_ext.methods.registry import register
from car_ext.methods.sources import DECOUPLING
from car_ext.priors import PerClass


@register(
    "head",
    "lws",
    title="Learnable weight scaling (LWS)",
    source=DECOUPLING,
    formula="s_c (w_c . x + b_c), only s learns, from 1",
    published="ImageNet-LT, ResNeXt-50: 49.9",
)
class LearnableWeightScaling(OnFinished):
    """A frozen head and one learnable factor a class."""

    def __init__(
        self, in_features: int, num_classes: int, class_counts: PerClass, init: nn.Module | None = None
    ) -> None:
        super().__init__(init, "lws")
        self.scale = nn.Parameter(self.weight.new_ones(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * self.head(features)


@register(
    "head",
    "disalign",
    title="DisAlign",
    source="Zhang et al., CVPR 2021",
    formula="(1 + c a_k) z_k + c b_k with c = sigmoid(v . x + d); z frozen, a from 1, b from 0",
    published="ImageNet-LT, ResNeXt-50: 52.4",
    notes="the head alone; its loss weighs class k by pi_k^-1.2; the bias d begins at 0, in the published code "
    "anywhere within 1 / sqrt(D)",
)
class DisAlign(OnFinished):
    """A frozen head, calibrated by a factor and an offset a class where a learnt confidence in the feature is high."""

    def __init__(
        self, in_features: int, num_classes: int, class_counts: PerClass, init: nn.Module | None = None
    ) -> None:
        super().__init__(init, "disalign")
        self.scale = nn.Parameter(self.weight.new_ones(num_classes))
        self.offset = nn.Parameter(self.weight.new_zeros(num_classes))
        self.confidence = nn.Linear(in_features, 1, device=self.weight.device, dtype=self.weight.dtype)
        nn.init.constant_(self.confidence.weight, 0.1)
        nn.init.zeros_(self.confidence.bias)

    def forward(self, features: Tensor) -> Tensor:
        confidence = self.confidence(features).sigmoid()
        return (1 + confidence * self.scale) * self.head(features) + confidence * self.offset
