"""Logit weight repulsion."""

import torch
import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.registry import register
from car_ext.methods.regularizers.base import WeightRegularizer
from car_ext.values import check


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

    strength: Tensor

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
