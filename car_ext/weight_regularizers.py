"""Regularizers of the classifier's weight alone: what is added to the loss, or done to the weight after an epoch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.registry import register
from car_ext.values import check


class WeightRegularizer(nn.Module):
    """Acts on the classifier's weight (K, D), a row a class; its state is buffers and is saved with it.

    loss = ce + regularizer.penalty(head.weight)  # every step
    regularizer.after_epoch(head.weight)  # every epoch, after its last step
    """

    def penalty(self, weight: Tensor) -> Tensor:
        """What to add to the loss: weight (K, D) to a 0-dim tensor, 0 unless a subclass says otherwise."""
        return weight.new_zeros(())

    def after_epoch(self, weight: Tensor) -> None:
        """Change ``weight`` in place, outside autograd; nothing unless a subclass says otherwise."""

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Told before each epoch, from 1 to ``epochs``; a regularizer with a schedule acts on it."""


@register(
    "regularizer",
    "lwr",
    title="Logit weight repulsion",
    source="Logit Weight Repulsion, BMVC 2023",
    formula="lambda0 (t / T) (1 / K) sum_{i != j: cos(w_i, w_j) > theta} (cos(w_i, w_j) - theta)",
    published="CIFAR100-LT IR100 ResNet-32: Balanced Softmax 46.3 -> 50.7",
    notes="a reconstruction: theta, a projection and a coefficient that depends on time are known; the form of the "
    "penalty, lambda0 and the ramp are ours",
)
class LogitWeightRepulsion(WeightRegularizer):
    """Pushes apart the weights of classes that point in similar directions. A reconstruction, not the authors' formula.

    Published: pairs act above a similarity theta (1.0 leaves none, -1.0 takes all, 0.4 is best), the gradient may be
    projected, the coefficient depends on time. Chosen here: the penalty's form, its linear ramp and lambda0.

    Args:
        theta: cosine above which a pair acts, in [-1, 1].
        lambda0: coefficient at the end, not negative; try 0.01, 0.1 and 1.
        ramp: lambda0 * t / T in epoch t of T, else lambda0 throughout. Full before the first `set_epoch`.
        project: penalise the cosine, whose gradient is orthogonal to each w_i; else the raw product w_i . w_j.

    Needs K x K memory.
    """

    def __init__(self, *, theta: float = 0.4, lambda0: float = 0.1, ramp: bool = True, project: bool = True):
        super().__init__()
        check("theta", theta, -1 <= theta <= 1, "in [-1, 1]")
        check("lambda0", lambda0, 0 <= lambda0 < float("inf"), "finite and not negative")
        self.theta, self.lambda0, self.ramp, self.project = theta, lambda0, ramp, project
        self.register_buffer("strength", torch.tensor(float(lambda0)), persistent=False)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        if self.ramp:
            self.strength.fill_(self.lambda0 * epoch / epochs)

    def penalty(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            directions = F.normalize(weight, dim=1)
            cosines = directions @ directions.T
            active = (cosines > self.theta) & ~torch.eye(len(weight), dtype=torch.bool, device=weight.device)
            similarity = cosines - self.theta if self.project else weight @ weight.T
            return self.strength * torch.where(active, similarity, 0.0).sum() / len(weight)


class WeightBalancing(WeightRegularizer):
    """Weight decay and a bound on each class's weight norm (MaxNorm), for a second stage that trains the classifier.

    ``decay / 2 * sum w^2`` joins the loss. After each epoch ``w_c <- w_c min(1, r / |w_c|)`` with
    ``r = min + thresh (max - min)`` over the class norms |w_c| that the first call sees: those of the first stage, if
    that call is the penalty of the first step. The bias is free.
    Source: Alshammari et al., Long-Tailed Recognition via Weight Balancing, CVPR 2022.

    Args:
        decay: not negative. As SGD's weight_decay; set that to 0 for the classifier.
        thresh: where between the least and the largest norm the bound lies, in [0, 1].
        bound: whether there is one.

    Raises:
        InputError: an option out of range; from `after_epoch`, a bound of 0, which a head of zeros gives.
    """

    def __init__(self, *, decay: float = 0.0, thresh: float = 0.1, bound: bool = True):
        super().__init__()
        check("decay", decay, 0 <= decay < float("inf"), "finite and not negative")
        check("thresh", thresh, 0 <= thresh <= 1, "in [0, 1]")
        self.decay, self.thresh, self.bound = decay, thresh, bound
        self.register_buffer("radius", torch.tensor(-1.0))  # not yet measured

    def penalty(self, weight: Tensor) -> Tensor:
        self._measure(weight)
        return self.decay / 2 * weight.square().sum()

    @torch.no_grad()
    def after_epoch(self, weight: Tensor) -> None:
        if not self.bound:
            return
        self._measure(weight)
        if not self.radius > 0:
            raise InputError("MaxNorm began with a weight of zeros, whose bound is 0: use it after a first stage")
        weight.mul_((self.radius / weight.norm(dim=1, keepdim=True)).clamp_max(1.0))

    @torch.no_grad()
    def _measure(self, weight: Tensor) -> None:
        least, largest = weight.norm(dim=1).aminmax()
        measured = least + self.thresh * (largest - least)
        self.radius.copy_(torch.where(self.radius < 0, measured, self.radius))  # no branch: the device need not wait


@register(
    "regularizer",
    "maxnorm",
    title="MaxNorm",
    source="Alshammari et al., CVPR 2022",
    formula="after each epoch w_c <- w_c min(1, r / |w_c|), r = min + thresh (max - min) of the first stage's |w_c|",
    published="CIFAR100-LT IR100 ResNet-34, second stage: 51.64 (LOS, ICLR 2025)",
    notes="for a second stage that trains only the classifier",
)
def max_norm(*, thresh: float = 0.1) -> WeightBalancing:
    """:class:`WeightBalancing` without decay."""
    return WeightBalancing(thresh=thresh)


@register(
    "regularizer",
    "ltwb",
    title="Weight balancing",
    source="Alshammari et al., CVPR 2022",
    formula="decay / 2 sum w^2 in the loss, and MaxNorm after each epoch",
    published="CIFAR100-LT IR100/50/10 ResNet-34, second stage: 53.4 / 57.7 / 68.7",
    notes="for a second stage that trains only the classifier (loss cb_bce:form=softmax, rate 0.01, 10 epochs); "
    "the strong decay of the first stage, 5e-3, belongs to the optimizer; the bias is not decayed here",
)
def weight_balancing(*, decay: float = 0.1, thresh: float = 0.1, bound: bool = True) -> WeightBalancing:
    """:class:`WeightBalancing` as published: strong decay of the classifier and MaxNorm."""
    return WeightBalancing(decay=decay, thresh=thresh, bound=bound)
