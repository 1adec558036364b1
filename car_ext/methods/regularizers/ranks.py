"""CAR where several processes share a batch: every rank has the matrix of all, and sends only the columns it holds."""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Columns(NamedTuple):
    """The numerators of a batch's confusion matrix, of the classes that occur.

    Attributes:
        labels: (C,) int64, the classes, rising.
        sums: (C, K), of each class the weighted sum of the surrogate over its samples.
        masses: (C,) the sums of their weights.
    """

    labels: Tensor
    sums: Tensor
    masses: Tensor

    def over(self, group: Any) -> "Columns":
        """Those of all ranks together, the same on each, added in the order of the ranks.

        Args:
            group: a process group of torch.distributed, in which every rank calls this.
        """
        size = torch.tensor([len(self.labels)], device=self.labels.device)
        sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size(group))]
        dist.all_gather(sizes, size, group)
        most = int(max(sizes))
        every = [self._of_all(part, most, sizes, group) for part in self]
        labels, member = every[0].unique(return_inverse=True)
        sums, masses = (part.new_zeros(len(labels), *part.shape[1:]).index_add_(0, member, part) for part in every[1:])
        return Columns(labels, sums, masses)

    @staticmethod
    def _of_all(part: Tensor, most: int, sizes: list[Tensor], group: Any) -> Tensor:
        """One of the three, of all ranks after one another."""
        padded = part.new_zeros(most, *part.shape[1:])
        padded[: len(part)] = part
        found = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(found, padded, group)
        return torch.cat([one[: int(size)] for one, size in zip(found, sizes, strict=True)])


def dense_step(
    car: Any, logits: Tensor, targets: Tensor, sample_weights: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    """alpha sigma of the ranks' matrix, and d (alpha sigma) / d logits of this rank's samples, times the ranks.

    `DistributedDataParallel` averages gradients over the ranks, and alpha sigma is no mean: so the factor.

    Args:
        car: a `CAR` with a process group, whose average is kept whole.
        logits, targets, sample_weights: as of its `forward`, detached.
        keep: whether the average moves.
    """
    form = (car.gamma, car.temperature, car.softmax_over_all, car.detach_gate, car.ignore_index)
    means, mass = torch.ops.car_ext.confusion(logits, targets, sample_weights, *form)  # a row is a true class
    labels = torch.nonzero(mass > 0)[:, 0]
    own = Columns(labels, means[labels] * mass[labels, None], mass[labels])
    labels, sums, masses = own.over(car.process_group)

    updates = car.updates.clone()
    updates[labels if car.hold_absent else slice(None)] += 1
    first = (updates[labels] == 1) & car.start_from_first_batch
    take = torch.where(first, 1.0, 1 - car.beta).to(car.ema.dtype)
    average = car.ema.clone() if car.hold_absent else car.beta * car.ema
    kept = torch.where(first, 0.0, car.beta).to(car.ema.dtype)
    average[labels] = kept[:, None] * car.ema[labels] + take[:, None] * (sums / masses[:, None]).to(car.ema.dtype)
    weights = car.alpha * car.class_weights / car.share(updates)
    sigma, of_true, of_predicted, error = torch.ops.car_ext.spectral_norm(
        average * weights[:, None], car.direction, car.tolerance, car.max_iterations
    )
    # d sigma / d (row of C~) = of_true weight take of_predicted; this rank's part of the mean is its part of the mass.
    factors = torch.zeros_like(weights)
    factors[labels] = weights[labels] * of_true[labels] * take * ~first / masses.to(weights.dtype)
    factors = factors * mass.to(weights.dtype) * dist.get_world_size(car.process_group)
    upstream = torch.outer(factors, of_predicted).to(means.dtype)
    upstream.fill_diagonal_(0)
    gradient = torch.ops.car_ext.confusion_backward(upstream, logits, targets, sample_weights, mass, *form)
    if keep:
        car.ema.copy_(average)
        car.updates.copy_(updates)
        car.spectral_error.copy_(error)
        if sigma > 0:
            car.direction.copy_(of_predicted)
    return sigma, gradient
