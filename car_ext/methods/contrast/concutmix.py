"""ConCutMix: balanced contrastive learning whose projections also say what a mixed image looks like."""

import torch
from torch import Tensor

from car_ext.errors import InputError
from car_ext.methods.augment.mix import Mix, Mixed
from car_ext.methods.contrast.balanced import BalancedContrast
from car_ext.methods.contrast.semantic import semantic_targets
from car_ext.methods.registry import register
from car_ext.priors import PerClass, check_class_counts
from car_ext.values import check


@register(
    "contrast",
    "concutmix",
    title="ConCutMix",
    source="Pan et al., IEEE TIP 2024",
    formula="as bcl, with labels omega q + (1 - omega) T of mixed images, q_k ~ 1 / |h(f(x)) - h_c(w_k)| of the topk",
    published="CIFAR100-LT IR100/50/10 ResNet-32: 53.16 / 57.40 / 64.53; CIFAR10-LT: 86.07 / 88.00 / 91.42",
    notes="with --mix concutmix; published with --head cosine, AutoAugment and --loss logit_adjusted:tau=0.9 (IR50/10: "
    "0.75/1; CIFAR10-LT IR100/50/10: 0.85/0.81/1); prototypes are those of the K classes for a linear head, too",
)
class ConCutMix(BalancedContrast):
    """Balanced contrastive learning, and semantically consistent labels (`semantic_targets`) of the mixed images.

    The contrast is between unmixed views. Labels change once the projections mean something: in epochs e from 1 on
    with `e - 1 > warm_epochs`.

    Args:
        topk: classes that share a label; None: 3 of 10 classes as on CIFAR10-LT, up to 30 as on the larger sets.
        omega: scale of the share, not negative; None: K / 1275, which is 2/255, 20/255, 200/255 and 1628/255 of the
            published CIFAR10-LT, CIFAR100-LT, ImageNet-LT and iNaturalist runs.
        warm_epochs: not negative; below 1 a share of all epochs. Published: 100 of 200, 160 of 400.
        The others as `BalancedContrast`.
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
        topk: int | None = None,
        omega: float | None = None,
        warm_epochs: float = 0.5,
    ) -> None:
        super().__init__(
            class_counts, in_features, alpha=alpha, beta=beta, temperature=temperature, hidden=hidden, dim=dim
        )
        self.class_counts = check_class_counts(class_counts).tolist()
        classes = len(self.class_counts)
        self.topk = min(max(3 * classes // 10, 1), 30) if topk is None else topk
        self.omega = classes / 1275 if omega is None else omega
        check("topk", self.topk, 1 <= self.topk <= classes, f"from 1 to the {classes} classes")
        check("omega", self.omega, 0 <= self.omega < float("inf"), "finite and not negative")
        check("warm_epochs", warm_epochs, 0 <= warm_epochs < float("inf"), "finite and not negative")
        self.warm_epochs, self.warm = warm_epochs, False

    def check(self, mix: Mix | None) -> None:
        if mix is None:
            raise InputError("--contrast concutmix labels mixed images; add --mix concutmix, or use --contrast bcl.")

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self.warm = epoch - 1 > self.warm_epochs * (epochs if self.warm_epochs < 1 else 1)

    def _labels(self, targets: Tensor | Mixed, labels: Tensor, projected: Tensor, prototypes: Tensor) -> Tensor:
        if not (self.warm and isinstance(targets, Mixed)):
            return labels
        looks = semantic_targets(projected, prototypes, labels, self.class_counts, self.topk, self.omega)
        return torch.where(targets.lam[:, None] < 1, looks, labels)
