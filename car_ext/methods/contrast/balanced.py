"""Balanced contrastive learning: every class has one voice in the denominator, and a prototype in every batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.augment.mix import Mixed
from car_ext.methods.contrast.base import Contrast, contrastive_loss, projection
from car_ext.methods.heads.base import weight_of
from car_ext.methods.registry import register
from car_ext.priors import PerClass
from car_ext.values import check


def balanced_contrastive(views: Tensor, prototypes: Tensor, targets: Tensor, temperature: float = 0.1) -> Tensor:
    """Balanced contrastive loss, the mean over all views as anchors.

    `-1/|P| sum_{p in P} log( e^(z.z_p/t) / sum_c mean_{k of class c} e^(z.z_k/t) )`: P is everything of the anchor's
    class, c runs over all K classes, k over the views and the prototype of a class; the anchor itself is in neither.
    Source: Zhu et al., Balanced Contrastive Learning for Long-Tailed Visual Recognition, CVPR 2022.

    Args:
        views: (V, N, F), of norm one.
        prototypes: (K, F), of norm one.
        targets: (N,) int64.
        temperature: t, positive.

    Returns:
        0-dim, differentiable in views and prototypes.
    """
    classes = torch.arange(len(prototypes), device=targets.device)
    anchors, anchor_classes = views.flatten(0, 1), targets.repeat(len(views))
    others, other_classes = torch.cat([anchors, prototypes]), torch.cat([anchor_classes, classes])
    itself = torch.eye(len(anchors), len(others), dtype=torch.bool, device=targets.device)
    same = anchor_classes[:, None] == other_classes
    # How many the class of each entry has beside the anchor: at least one, its prototype.
    company = F.one_hot(other_classes, len(prototypes)).sum(dim=0)[other_classes] - same.long()
    log_weights = (-company.to(views.dtype).log()).masked_fill(itself, -torch.inf)
    return contrastive_loss(anchors @ others.T / temperature, (same & ~itself).to(views.dtype), log_weights).mean()


@register(
    "contrast",
    "bcl",
    title="Balanced contrastive learning (BCL)",
    source="Zhu et al., CVPR 2022",
    formula="alpha L + beta mean_i -1/|P| sum_{p in P} (z_i.z_p/t - log sum_c mean_{k of c} e^(z_i.z_k/t))",
    published="CIFAR100-LT IR100/50/10 ResNet-32: 51.0 / 54.9 / 64.4 (as cited in LOS, ICLR 2025)",
    notes="published with --loss balanced_softmax, --head cosine, AutoAugment or RandAugment; on ImageNet-LT "
    "alpha=1,beta=0.35,temperature=0.07,hidden=2048,dim=1024",
)
class BalancedContrast(Contrast):
    """Two more views of each image and a prototype of each class, h(f(x)) and h_c(w_c), contrasted.

    h and h_c are projection heads, w_c is the classifier's weight. h sees the classified view as well, as in the
    published code: batch normalisation then has all three.

    Args:
        class_counts: (K,) training images of each class.
        in_features: D.
        alpha: weight of the classification loss, not negative.
        beta: weight of the term, not negative.
        temperature: t, positive.
        hidden: width of the projection heads.
        dim: F, of what they give.
    """

    def __init__(
        self,
        class_counts: PerClass,
        in_features: int,
        *_: object,
        alpha: float = 2.0,
        beta: float = 0.6,
        temperature: float = 0.1,
        hidden: int = 512,
        dim: int = 128,
    ) -> None:
        super().__init__()
        check("alpha", alpha, 0 <= alpha < float("inf"), "finite and not negative")
        check("beta", beta, 0 <= beta < float("inf"), "finite and not negative")
        check("temperature", temperature, 0 < temperature < float("inf"), "positive")
        check("hidden", hidden, hidden >= 1, "at least 1")
        check("dim", dim, dim >= 1, "at least 1")
        self.base_weight, self.beta, self.temperature = alpha, beta, temperature
        self.projection = projection(in_features, hidden, dim)
        self.prototype_projection = projection(in_features, hidden, dim)

    def forward(
        self, logits: Tensor, targets: Tensor | Mixed, labels: Tensor, features: Tensor, views: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(features.device.type, enabled=False):
            rows = torch.cat([features[None], views]).flatten(0, 1).to(weight_of(self.projection[0]).dtype)
            own, *others = self.projection(rows).unflatten(0, (1 + len(views), len(features)))
            prototypes = self.prototype_projection(weight)
            classes = targets.targets if isinstance(targets, Mixed) else targets
            normalised = F.normalize(torch.stack(others), dim=2), F.normalize(prototypes, dim=1)
            term = self.beta * balanced_contrastive(*normalised, classes, self.temperature)
            return term, self._labels(targets, labels, own, prototypes)

    def _labels(self, targets: Tensor | Mixed, labels: Tensor, projected: Tensor, prototypes: Tensor) -> Tensor:
        """Labels for the classification loss; projected (N, F) and prototypes (K, F) are not normalised."""
        return labels
