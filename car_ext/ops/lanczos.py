"""The largest singular value of a matrix that is known by what it does to a vector."""

from collections.abc import Callable

import torch
from torch import Tensor


def top_singular(
    gram: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor]:
    """sigma and the left singular vector of M by the Lanczos process on `M M^T`, every vector orthogonal to all before.

    Args:
        gram: (K,) to `M M^T` times it.
        start: (K,) where to begin; for a nonnegative M a positive vector, which overlaps the vector that is looked for.
        tolerance: the angle in radians that the vector may be off, estimated as residual / (first - second Ritz value).
        max_iterations: cap; each calls `gram` once.

    Returns:
        sigma (0-dim) and the unit vector (K,), of `start`'s dtype; 0 and the unit start where M is zero.
    """
    basis = (start / start.norm())[None]
    tridiagonal = torch.zeros(max_iterations, max_iterations, dtype=torch.float64)
    for step in range(max_iterations):
        image = gram(basis[-1])
        tridiagonal[step, step] = image @ basis[-1]
        for _ in range(2):  # once leaves rounding behind
            image = image - basis.T @ (basis @ image)
        length = image.norm()
        values, vectors = torch.linalg.eigh(tridiagonal[: step + 1, : step + 1])
        gap = values[-1] - (values[-2] if step else 0)
        done = length * vectors[-1, -1].abs() <= tolerance * gap
        if done or step == max_iterations - 1:
            break
        tridiagonal[step, step + 1] = tridiagonal[step + 1, step] = length
        basis = torch.cat([basis, (image / length)[None]])
    left = vectors[:, -1].to(basis) @ basis
    left = left * torch.where(left.sum() < 0, -1.0, 1.0).to(left.dtype)
    return values[-1].clamp_min(0).sqrt().to(left), left / left.norm()
