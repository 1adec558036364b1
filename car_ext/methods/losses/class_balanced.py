"""Class-balanced weights on any loss, from the first epoch or a later one."""

import torch
from torch import Tensor

from car_ext.methods.losses.base import Loss, check_additive
from car_ext.methods.losses.cross_entropy import CrossEntropy
from car_ext.methods.losses.focal import BinaryCrossEntropy, Focal
from car_ext.methods.registry import register
from car_ext.priors import PerClass, effective_number_weights
from car_ext.values import check


@register(
    "weighting",
    "drw",
    title="Deferred re-weighting (DRW)",
    source="Cao et al., NeurIPS 2019",
    formula="sum_q w_q l_q / sum_q w_q from --drw-epoch on, w_c ~ (1 - beta) / (1 - beta^n_c)",
    published="CIFAR10-LT / CIFAR100-LT IR100 ResNet-32, on LDAM: 77.03 / 42.04",
    notes="weighted_mean=false is the plain mean, with smaller gradients",
)
class DeferredReweighting(Loss):
    """`w_y * base` from an epoch on, `base` before: deferred re-weighting (DRW).

    `w_c = (1 - beta) / (1 - beta ** n_c)`, scaled to mean 1 over the classes.
    Source: Cao et al., NeurIPS 2019 (deferred); Cui et al., CVPR 2019 (weights).

    The mean is divided by the batch's weights, `sum_q w_q l_q / sum_q w_q`, which is the re-normalised learning rate of
    LDAM's Algorithm 1, line 11, and what `torch.nn.CrossEntropyLoss(weight=w)` computes. The plain mean over the
    samples has gradients as small as the mean weight of an image, 0.17 of these at CIFAR-10's imbalance ratio 100.

    Args:
        base: an additive loss; its reduction becomes that of the whole.
        drw_epoch: the first epoch with weights, from 1; None: after 80 % of the epochs, as the published recipes
            (160 of 200, 80 of 100). Follows `set_epoch`; before its first call only `drw_epoch=1` is on.
        beta: in [0, 1); 0 switches the weights off.
        weighted_mean: False for the plain mean over the samples. With reduction "none" nothing is divided.

    Raises:
        InputError: an option out of range, or a base that couples the samples of a batch.
    """

    class_weights: Tensor

    def __init__(
        self, base: Loss, drw_epoch: int | None = None, *, beta: float = 0.9999, weighted_mean: bool = True
    ) -> None:
        counts = base.class_counts.tolist()
        super().__init__(counts, base.reduction)
        check_additive(base, "re-weighting")
        check("drw_epoch", drw_epoch, drw_epoch is None or drw_epoch >= 1, "an epoch from 1 on")
        self.base, self.drw_epoch, self.weighted_mean = base, drw_epoch, weighted_mean
        self.needs_features, self.cosine_logits = base.needs_features, base.cosine_logits
        self.active = drw_epoch == 1
        weights = torch.from_numpy(effective_number_weights(counts, beta)).float()
        self.register_buffer("class_weights", weights, persistent=False)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self.base.set_epoch(epoch, epochs)
        self.active = 5 * epoch > 4 * epochs if self.drw_epoch is None else epoch >= self.drw_epoch

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        return self.base.per_sample(logits, self._weighted(labels), features)

    def total_weight(self, labels: Tensor) -> Tensor:
        return self.base.total_weight(self._weighted(labels))

    def _weighted(self, labels: Tensor) -> Tensor:
        return labels * self.class_weights if self.active else labels


@register(
    "loss",
    "cb_ce",
    title="Class-balanced cross-entropy",
    source="Cui et al., CVPR 2019",
    formula="-w_y log p_y, w_c ~ (1 - beta) / (1 - beta^n_c), mean 1",
    published="CIFAR100-LT IR100 ResNet-32: 39.6 (as cited in LOS, ICLR 2025)",
    notes="mean over the samples as in the paper; weighted_mean=true divides by the batch's mean weight as torch does",
)
def cb_ce(
    class_counts: PerClass, reduction: str = "mean", *, beta: float = 0.9999, weighted_mean: bool = False
) -> DeferredReweighting:
    """`CrossEntropy` with class-balanced weights from the first epoch."""
    return DeferredReweighting(CrossEntropy(class_counts, reduction), 1, beta=beta, weighted_mean=weighted_mean)


@register(
    "loss",
    "cb_bce",
    title="Class-balanced binary cross-entropy",
    source="Cui et al., CVPR 2019",
    formula="w_y sum_k BCE(z_k, [k = y]), w_c ~ (1 - beta) / (1 - beta^n_c), mean 1",
    published="CIFAR100-LT IR100 ResNet-34, second stage on weight-decayed features: 53.31 (LOS, ICLR 2025)",
    notes="divided by the batch size; form=softmax is what the code of weight balancing (CVPR 2022) trains",
)
def cb_bce(
    class_counts: PerClass, reduction: str = "mean", *, beta: float = 0.9999, form: str = "sigmoid"
) -> DeferredReweighting:
    """`BinaryCrossEntropy` with class-balanced weights from the first epoch."""
    return DeferredReweighting(
        BinaryCrossEntropy(class_counts, reduction, form=form), 1, beta=beta, weighted_mean=False
    )


@register(
    "loss",
    "cb_focal",
    title="Class-balanced focal loss",
    source="Cui et al., CVPR 2019",
    formula="w_y times the sigmoid focal loss, w_c ~ (1 - beta) / (1 - beta^n_c), mean 1",
    published="CIFAR100-LT IR100 ResNet-32: 38.56 (Zhang et al., AAAI 2021)",
    notes="summed over the classes, divided by the batch size; without the paper's initial bias -log(K - 1); 38.56 is "
    "of beta=0.9,gamma=1",
)
def cb_focal(
    class_counts: PerClass, reduction: str = "mean", *, beta: float = 0.9999, gamma: float = 2.0, form: str = "sigmoid"
) -> DeferredReweighting:
    """`Focal` with class-balanced weights from the first epoch."""
    return DeferredReweighting(
        Focal(class_counts, reduction, gamma=gamma, form=form), 1, beta=beta, weighted_mean=False
    )
