"""LDAM: margins that grow as classes get rarer."""

import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.losses.base import Loss, log_odds
from car_ext.methods.registry import register
from car_ext.priors import PerClass
from car_ext.values import check


@register(
    "loss",
    "ldam",
    title="Label-distribution-aware margin loss",
    source="Cao et al., NeurIPS 2019",
    formula="CE(s (cos - m_y e_y), y), m_c = max_margin (n_min / n_c)^(1/4)",
    published="CIFAR100-LT IR100/50/10 ResNet-32, with DRW: 42.0 / 46.6 / 58.7 (as cited in LOS, ICLR 2025)",
    notes="needs a cosine head of scale 1, or scaled_logits=true and the head's own scale; with DRW: ldam+drw",
)
class LDAM(Loss):
    """Cross-entropy after taking the margin `m_y` off the true class.

    The logits are cosines in [-1, 1]: a cosine head of scale 1, no bias. With `scaled_logits` the head has already
    multiplied by `scale` (the variant of LIFT, Shi et al., ICML 2024). On plain linear logits it is not LDAM.

    Args:
        max_margin: of the rarest class, not negative.
        scale: s, positive.
        scaled_logits: the logits are `scale` times the cosines.
    """

    margins: Tensor

    def __init__(
        self,
        class_counts: PerClass,
        reduction: str = "mean",
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        scaled_logits: bool = False,
    ):
        super().__init__(class_counts, reduction)
        check("max_margin", max_margin, 0 <= max_margin < float("inf"), "finite and not negative")
        check("scale", scale, 0 < scale < float("inf"), "finite and positive")
        self.scale, self.scaled_logits = scale, scaled_logits
        self.cosine_logits = not scaled_logits
        counts = self.class_counts.double()
        self.register_buffer("margins", (max_margin * (counts.min() / counts) ** 0.25).float(), persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        odds = log_odds(logits if self.scaled_logits else self.scale * logits)
        return -(labels * F.logsigmoid(odds - self.scale * self.margins)).sum(1)
