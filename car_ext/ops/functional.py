"""The differentiable confusion matrix and its spectral norm, each on its own: for losses and reports besides CAR."""

import torch
from torch import Tensor

from car_ext.ops import operators as ops  # noqa: F401  (registers the operators)


def confusion(
    logits: Tensor,
    targets: Tensor,
    sample_weights: Tensor | None = None,
    *,
    gamma: float = 0.1,
    temperature: float = 1.0,
    softmax_over_all: bool = False,
    detach_gate: bool = False,
    ignore_index: int = -100,
) -> Tensor:
    """The differentiable confusion matrix of a batch: how much of class j is taken for class i.

    `C[i, j] = (1 / n_j) * sum over samples of class j of v_i` with
    `v_i = sigmoid(gamma + z_i - z_j) * softmax(z / temperature)_i` for i != j and `v_j = 0`; the softmax is over
    the classes other than j. n_j is the sum of the class's sample weights. Source: arXiv 2603.16732, Eq. 7.

    One pass over the logits; neither it nor the backward pass forms an intermediate of the logits' size. First-order
    gradients only, to `logits` alone: `sample_weights` count as constants.

    Args:
        logits: (N, K) or (N, K, *spatial), K >= 2; float32, bfloat16, float16 or float64, any strides. -inf marks a
            masked class.
        targets: (N,) or (N, *spatial), int64 in [0, K); entries equal to `ignore_index` take no part.
        sample_weights: like targets, not negative, float32 (float64 for float64 logits), or None for 1 each.
        gamma: margin inside the gate.
        temperature: of the softmax, positive.
        softmax_over_all: the softmax is over every class, and the true one then masked.
        detach_gate: no gradient through the sigmoid.

    Returns:
        (K, K), row predicted, column true, zero diagonal, columns that sum to at most 1; a column is zero where the
        batch does not hold the class. float32, for float64 logits float64. The memory is that of the transposed
        matrix: a class's column is contiguous.

    Raises:
        RuntimeError: logits and targets that do not fit; an option out of range; on the CPU a target out of range,
            NaN or infinite logits, a negative weight. CUDA cannot raise for what the data holds: the matrix is NaN.
    """
    by_true_class, _ = torch.ops.car_ext.confusion(
        logits, targets, sample_weights, gamma, temperature, softmax_over_all, detach_gate, ignore_index
    )
    return by_true_class.T


def spectral_norm(
    matrix: Tensor, start: Tensor | None = None, *, tolerance: float = 1e-5, max_iterations: int = 96
) -> Tensor:
    """Largest singular value of a matrix without negative entries, differentiable, without a full SVD.

    `sigma = max ||matrix x||_2 over ||x||_2 = 1`; `d sigma / d matrix = outer(left, right)`, its singular vectors
    (0 for the zero matrix, where sigma has no derivative). Found by the Lanczos process from a vector near all-ones,
    which overlaps the top vector of every nonnegative matrix (Perron-Frobenius). With negative entries it may miss the
    top pair. `docs/kernel.md` describes the method. First-order gradients only.

    Args:
        matrix: (K, K), float32 or float64; made contiguous if it is not. Products of two entries must be normal
            numbers of its dtype: in float32, sigma between 1e-18 and 1e18; below, it counts as zero.
        start: (K,) a right singular vector to start from, as of a similar matrix (the third result of
            `torch.ops.car_ext.spectral_norm`); it saves iterations and cannot hide another vector. No gradient.
        tolerance: the angle in radians that the right singular vector may be off.
        max_iterations: cap; each reads the matrix once.

    Returns:
        sigma, 0-dim, in the matrix's dtype.

    Raises:
        RuntimeError: not one square float32 or float64 matrix; a start that does not fit; on the CPU NaN or infinite
            entries. CUDA cannot raise for what the matrix holds: sigma is NaN.
    """
    return torch.ops.car_ext.spectral_norm(matrix, start, tolerance, max_iterations)[0]
