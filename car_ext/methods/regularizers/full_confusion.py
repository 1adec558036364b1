"""The matrix that CAR's moving average stands for, over a whole data set."""

from typing import Any

import torch
from torch import Tensor

from car_ext.methods.regularizers.car import CAR
from car_ext.ops import operators as ops  # noqa: F401  (registers the operators)
from car_ext.ops.reference import surrogate

LARGEST = 10_000  # classes: the matrix, the average and their difference are 0.4 GB each


class FullConfusion:
    """The matrix that CAR's moving average stands for, over a whole data set, and how far the average is from it.

        full = FullConfusion(car)
        for logits, targets in batches:
            full.update(logits, targets)
        full.gap()

    C[i, j] is the mean over all samples of class j of the same v_i (arXiv 2603.16732, Eq. 7); a class without a sample
    has a zero column. Memory is one (K, K) matrix: a spectral norm without it would need a pass over all images for
    each of its iterations. So of more than `LARGEST` classes there is none, and `unavailable` says so.
    """

    def __init__(self, car: CAR) -> None:
        self._car = car
        classes = len(car.class_weights)
        self._sums = torch.zeros(classes, classes, dtype=torch.float32)  # row = true class
        self._samples = torch.zeros(len(self._sums), dtype=torch.int64)

    @staticmethod
    def unavailable(classes: int) -> dict[str, Any] | None:
        """What stands in the place of `gap` where there are too many classes; None where there are not."""
        if classes <= LARGEST:
            return None
        reason = (
            f"not computed: the matrix over all training images is of {classes:,} x {classes:,} numbers, and is made "
            f"up to {LARGEST:,} classes"
        )
        return {"sigma": None, "full_sigma": None, "distance": None, "note": reason}

    @torch.no_grad()
    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch: logits (B, K) float32 and targets (B,) int64, on the CPU."""
        car = self._car
        values = surrogate(car.adjust(logits), targets, car.gamma, car.temperature, car.softmax_over_all)
        self._sums.index_add_(0, targets, values)
        self._samples += torch.bincount(targets, minlength=len(self._samples))

    def matrix(self) -> Tensor:
        """C (K, K) float32; row = predicted, column = true."""
        return (self._sums / self._samples.clamp_min(1)[:, None]).T

    def gap(self) -> dict[str, float | None]:
        """{"sigma": || C^ Lambda ||_2, "full_sigma": || C Lambda ||_2, "distance": || C^ - C ||_F / || C ||_F}.

        C^ is the moving average as it is now. The distance is None where C is zero.
        """
        full, average = self.matrix(), self._car.average().cpu().float()
        weights = self._car.class_weights.cpu()
        sigma, full_sigma = (
            torch.ops.car_ext.spectral_norm(matrix * weights, None, self._car.tolerance, self._car.max_iterations)[0]
            for matrix in (average, full)
        )
        size = full.norm().item()
        return {
            "sigma": sigma.item(),
            "full_sigma": full_sigma.item(),
            "distance": (average - full).norm().item() / size if size else None,
        }
