"""Cross-entropy weighted by a power of the class's frequency."""

import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.losses.base import Loss
from car_ext.methods.registry import register
from car_ext.priors import PerClass
from car_ext.values import check


@register(
    "loss",
    "reweighted",
    title="Generalised re-weighting",
    source="Zhang et al. (DisAlign), CVPR 2021",
    formula="-w_y log p_y, w_c ~ pi_c^-rho, mean 1",
    notes="rho 1 is inverse frequency, 0 plain cross-entropy; the second stage of DisAlign uses 1.2",
)
class Reweighted(Loss):
    """`-w_y log p_y` with `w_c = pi_c ** -rho`, scaled to mean 1 over the classes; the mean is over the samples.

    Args:
        rho: finite and not negative.
    """

    class_weights: Tensor

    def __init__(self, class_counts: PerClass, reduction: str = "mean", *, rho: float = 1.0):
        super().__init__(class_counts, reduction)
        check("rho", rho, 0 <= rho < float("inf"), "finite and not negative")
        weights = self.class_counts.double() ** -rho
        self.register_buffer("class_weights", (weights / weights.mean()).float(), persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.cross_entropy(logits, labels * self.class_weights, reduction="none")
