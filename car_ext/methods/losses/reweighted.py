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
    formula="-sum_q w_q log p_q / sum_q w_q, w_c ~ pi_c^-rho",
    notes="rho 1 is inverse frequency, 0 plain cross-entropy; the second stage of DisAlign uses 1.2; "
    "weighted_mean=false is the plain mean, with smaller gradients",
)
class Reweighted(Loss):
    """`-w_y log p_y` with `w_c = pi_c ** -rho`, scaled to mean 1 over the classes.

    The mean is divided by the batch's weights, as in the published code; the plain mean over the samples has gradients
    as small as the mean weight of an image, 0.16 of these at rho 1.2 and CIFAR-100's imbalance ratio 100.

    Args:
        rho: finite and not negative.
        weighted_mean: False for the plain mean over the samples. With reduction "none" nothing is divided.
    """

    class_weights: Tensor

    def __init__(
        self, class_counts: PerClass, reduction: str = "mean", *, rho: float = 1.0, weighted_mean: bool = True
    ) -> None:
        super().__init__(class_counts, reduction)
        check("rho", rho, 0 <= rho < float("inf"), "finite and not negative")
        self.weighted_mean = weighted_mean
        weights = self.class_counts.double() ** -rho
        self.register_buffer("class_weights", (weights / weights.mean()).float(), persistent=False)

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return F.cross_entropy(logits, labels * self.class_weights, reduction="none")

    def total_weight(self, labels: Tensor) -> Tensor:
        return (labels * self.class_weights).sum()
