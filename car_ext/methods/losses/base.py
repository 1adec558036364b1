"""What every loss is: linear in the label, so a mixed label is a mixture of hard ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.priors import PerClass, check_class_counts
from car_ext.values import check


class Loss(nn.Module):
    """A classification loss. Subclasses write `per_sample` in terms of label weights (B, K).

    A hard target is a one-hot row of label weights. A soft target t stands for the mixture of hard ones,
    `loss(t) = sum_k t_k loss(y = k)`: so Mixup of two labels by lam is lam of one loss and 1 - lam of the other, and
    weighing a sample or a class is weighing its label.

    Computed in float32 (float64 for float64 logits), also under autocast.

    Args:
        class_counts: (K,) training images of each class, K >= 2, all at least 1.
        reduction: "mean" over the batch or "none".

    Shapes of `forward`:
        logits (B, K), floating point and finite.
        targets (B,) int64 in [0, K), or (B, K) floating point, not negative, rows that sum to 1.
        features (B, D), what the classifier saw; only where `needs_features`.

    Returns a 0-dim tensor, or (B,) with reduction "none".

    Raises:
        InputError: class_counts that are not counts, an option out of range.
        ValueError: logits, targets or features of another shape or dtype.
    """

    class_counts: Tensor
    priors: Tensor

    additive = True  # a sum over the samples, linear in their label weights: what a wrapper can re-weight
    weighted_mean = False  # the mean is divided by the batch's weights, not by its samples
    needs_features = False
    cosine_logits = False  # logits are cosines in [-1, 1], not yet scaled

    def __init__(self, class_counts: PerClass, reduction: str = "mean"):
        super().__init__()
        check("reduction", reduction, reduction in ("mean", "none"), "'mean' or 'none'")
        counts = torch.from_numpy(check_class_counts(class_counts))
        self.reduction = reduction
        # Not saved: the constructor knows them.
        self.register_buffer("class_counts", counts.float(), persistent=False)
        self.register_buffer("priors", (counts.double() / counts.sum()).float(), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, features: Tensor | None = None) -> Tensor:
        if logits.dtype != torch.float64:
            logits = logits.float()
        labels = self._label_weights(logits, targets)
        losses = self.per_sample(logits, labels, self._features(logits, features))
        if self.reduction == "none":
            return losses
        return losses.sum() / self.total_weight(labels) if self.weighted_mean else losses.mean()

    def per_sample(self, logits: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        """The formula: logits and label weights (B, K), not negative, of any row sums, to losses (B,)."""
        raise NotImplementedError

    def total_weight(self, labels: Tensor) -> Tensor:
        """What the sum of a batch's losses is divided by where `weighted_mean`: label weights (B, K) to 0-dim."""
        return labels.sum()

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Told before each epoch, from 1 to `epochs`; a loss with a schedule acts on it."""

    def _label_weights(self, logits: Tensor, targets: Tensor) -> Tensor:
        classes = len(self.priors)
        if logits.ndim != 2 or logits.shape[1] != classes:
            raise ValueError(f"logits have shape {tuple(logits.shape)}, but must be (batch, {classes})")
        if targets.dtype == torch.int64 and targets.shape == logits.shape[:1]:
            return F.one_hot(targets, classes).to(logits.dtype)
        if targets.is_floating_point() and targets.shape == logits.shape:
            return targets.to(logits.dtype)
        raise ValueError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}, but must be int64 ({len(logits)},) or "
            f"floating point {tuple(logits.shape)}"
        )

    def _features(self, logits: Tensor, features: Tensor | None) -> Tensor | None:
        if not self.needs_features:
            return None
        if features is None or features.ndim != 2 or len(features) != len(logits):
            given = "none" if features is None else f"{tuple(features.shape)}"
            raise ValueError(f"this loss needs features (batch, D) for {len(logits)} samples, got {given}")
        return features.to(logits.dtype)


def check_additive(base: Loss, wrapper: str) -> None:
    """Refuse a loss that couples the samples of a batch: a wrapper could not weigh one of them."""
    if not base.additive:
        raise InputError(f"{wrapper} cannot wrap {type(base).__name__}, which is no sum over samples; use another loss")


def log_odds(logits: Tensor) -> Tensor:
    """log(p_k / (1 - p_k)) of p = softmax(logits): z_k - log sum_{j != k} exp z_j; (B, K) to (B, K).

    log p_k and log(1 - p_k) are its logsigmoid and that of its negative, both without cancellation however close p_k
    is to 0 or 1. Finite for finite logits.
    """
    top = logits.argmax(1, keepdim=True)
    highest = logits.gather(1, top)
    shares = (logits - highest).exp()
    # The highest share is 1, so taking any other one away from the sum loses no digits; its own rest is summed apart.
    rest = highest + (shares.sum(1, keepdim=True) - shares.scatter(1, top, 0.0)).log()
    rest_of_highest = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    return logits - rest.scatter(1, top, rest_of_highest)
