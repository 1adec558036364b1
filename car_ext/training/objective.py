"""What a training step minimises: a loss, CAR, what acts on the classifier's weight, and a contrast of views."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.methods.augment.mix import Mix, Mixed
from car_ext.methods.contrast import Contrast
from car_ext.methods.heads.base import weight_of
from car_ext.methods.losses import build_loss
from car_ext.methods.registry import build
from car_ext.methods.regularizers import split_words
from car_ext.methods.regularizers.base import WeightRegularizer
from car_ext.methods.regularizers.car import CAR
from car_ext.priors import PerClass


class Terms(NamedTuple):
    """One step's values, each 0-dim; only `loss` has a gradient to follow."""

    loss: Tensor  # all of it
    base: Tensor  # of the classification loss alone
    sigma: Tensor  # CAR's spectral norm; 0 without CAR


class Objective(nn.Module):
    """`base + alpha sigma + penalties + contrast`; its buffers and parameters are part of a run's state.

    A contrast also weighs `base`.

    Args:
        loss: word of a loss, such as `ldam+drw` (`car_ext.methods.losses`).
        regularizers: words joined by `+`, such as `car+maxnorm:thresh=0.2`, or `none`.
        class_counts: (K,) training images of each class.
        car: options of `CAR`.
        drw_epoch: of a loss with `+drw`.
        contrast: a term of several views of each image (`car_ext.methods.contrast`), with parameters to train.

    Raises:
        InputError: an unknown name or option, or a loss beside a contrast that holds its own.
    """

    def __init__(
        self,
        loss: str,
        regularizers: str,
        class_counts: PerClass,
        car: dict[str, Any],
        drw_epoch: int | None = None,
        contrast: Contrast | None = None,
    ) -> None:
        super().__init__()
        if contrast is not None and not contrast.base_weight and loss != "ce":
            raise InputError(f"this --contrast gives the classification loss no weight; leave --loss {loss} out.")
        self.base = build_loss(loss, class_counts, drw_epoch=drw_epoch)
        given, words = split_words(regularizers)
        self.car = None if given is None else CAR(class_counts, **{**car, **given})
        self.on_weight = nn.ModuleList(build("regularizer", word) for word in words)
        self.contrast = contrast

    @property
    def needs_features(self) -> bool:
        """Whether it looks at features, and not at logits alone."""
        return self.base.needs_features or self.contrast is not None

    def check(self, head: nn.Module, mix: Mix | None = None) -> None:
        """Refuse to train `head` on batches that `mix` made.

        Raises:
            InputError: this cannot train it, or not on them.
        """
        if self.base.cosine_logits and not hasattr(head, "scale"):
            raise InputError("this loss takes cosines, so it needs --head cosine (or another head that gives them).")
        on_weight = "regularizer" if len(self.on_weight) else "contrast" if self.contrast is not None else None
        if on_weight and not isinstance(getattr(head, "weight", None), nn.Parameter):
            raise InputError(f"this --{on_weight} acts on the classifier's weight, but this --head does not train one.")
        if self.contrast is not None:
            self.contrast.check(mix)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Before each epoch, from 1."""
        self.base.set_epoch(epoch, epochs)
        for part in self._weight_regularizers():
            part.set_epoch(epoch, epochs)
        if self.contrast is not None:
            self.contrast.set_epoch(epoch, epochs)

    def after_epoch(self, head: nn.Module) -> None:
        for part in self._weight_regularizers():
            part.after_epoch(weight_of(head))

    def forward(
        self,
        logits: Tensor,
        targets: Tensor | Mixed,
        features: Tensor,
        head: nn.Module,
        views: Tensor | None = None,
    ) -> Terms:
        """Logits (N, K) float32, targets (N,) int64 or a mixed batch, features (N, D) and the head between them.

        `views` (V, N, D): features of the further views that the contrast asks for.
        """
        labels = targets.soft_targets(logits.shape[1]) if isinstance(targets, Mixed) else targets
        if self.contrast is not None:
            compared, labels = self.contrast(logits, targets, labels, features, views, head.weight)
        scale: Any = head.scale if self.base.cosine_logits else None
        base = self.base(logits if scale is None else logits / scale, labels, features)
        loss, sigma = base, torch.zeros_like(base)
        if self.contrast is not None:
            loss = self.contrast.base_weight * base + compared
        if self.car is not None:
            # On the CPU the operator refuses logits that are not finite; NaN lets the caller say what happened.
            refused = logits.device.type == "cpu" and not logits.isfinite().all()
            penalty = torch.full_like(base, torch.nan) if refused else _of_images(self.car, logits, targets)
            loss, sigma = loss + penalty, penalty / (self.car.alpha or 1.0)
        for part in self._weight_regularizers():
            loss = loss + part.penalty(weight_of(head))
        return Terms(loss, base, sigma)

    def _weight_regularizers(self) -> Iterator[WeightRegularizer]:
        every: Any = self.on_weight  # to a type checker a list of any modules
        return iter(every)


def _of_images(car: CAR, logits: Tensor, targets: Tensor | Mixed) -> Tensor:
    """CAR of a batch, mixed or not."""
    if not isinstance(targets, Mixed):
        return car(logits, targets)
    # A mixed image is two images of one class each, with the weights of its labels.
    both = torch.cat([targets.targets, targets.partner_targets])
    return car(logits.repeat(2, 1), both, torch.cat([targets.lam, 1 - targets.lam]).to(logits.dtype))
