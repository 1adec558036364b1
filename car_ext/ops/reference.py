"""CAR in plain PyTorch: the formulas as the paper states them, slow and obvious.

The oracle that every kernel is tested against, and what runs on devices without a kernel. Everything works in the dtype
it is given; the tests give float64. Source: Confusion-Aware Spectral Regularizer, arXiv 2603.16732, CVPR 2026.

Matrices are C[i, j]: row i the predicted class, column j the true class.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def surrogate(
    logits: Tensor,
    targets: Tensor,
    gamma: float = 0.1,
    temperature: float = 1.0,
    softmax_over_all: bool = False,
    detach_gate: bool = False,
) -> Tensor:
    """Differentiable confusion of each sample: soft margin gate times soft argmax (Eq. 7).

    `v_i = sigmoid(gamma + z_i - z_y) * softmax(z / temperature)_i` for i != y and `v_y = 0`; the softmax is over
    the classes other than y, or over all of them with `softmax_over_all` (the authors' code).

    Args:
        logits: (B, K) floating point. -inf marks a masked class.
        targets: (B,) int64 in [0, K).

    Returns:
        (B, K), each row sums to at most 1.
    """
    logits = logits.clamp_min(torch.finfo(logits.dtype).min)
    true = F.one_hot(targets, logits.shape[1]).bool()
    margins = logits - logits.gather(1, targets[:, None])
    gates = torch.sigmoid(gamma + (margins.detach() if detach_gate else margins))
    candidates = logits if softmax_over_all else logits.masked_fill(true, -torch.inf)
    return torch.where(true, 0.0, gates * torch.softmax(candidates / temperature, dim=1))


def class_means(values: Tensor, targets: Tensor, sample_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weighted mean of `values` (B, K) over the samples of each true class: the columns of C~ (Eq. 7).

    Returns:
        C~ (K, K) with column j = mean over class j (zero where the class is absent), and n_j (K,), the weight that
        each class has in this batch.
    """
    members = F.one_hot(targets, values.shape[1]).to(values.dtype)  # (B, K)
    if sample_weights is not None:
        members = members * sample_weights[:, None].to(values.dtype)
    mass = members.sum(0)
    return (values.T @ members) / torch.where(mass > 0, mass, 1.0), mass


def rows_of_classes(logits: Tensor) -> Tensor:
    """(N, K, *spatial) -> (N * prod(spatial), K)."""
    return logits.movedim(1, -1).reshape(-1, logits.shape[1])


def confusion(
    logits: Tensor,
    targets: Tensor,
    sample_weights: Tensor | None,
    gamma: float,
    temperature: float,
    softmax_over_all: bool,
    detach_gate: bool,
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """The batch's own matrix, transposed, and n_j: same signature and results as the operator, differentiable.

    Half-precision logits are computed in float32.

    Args:
        logits: (N, K, *spatial), any strides.
        targets: (N, *spatial) int64; `ignore_index` entries take no part.
        sample_weights: like targets, not negative, or None.

    Returns:
        (K, K) with row j = weighted mean of the surrogate over the samples of true class j, zero where there is none,
        and (K,) the classes' weights in this batch.
    """
    samples = rows_of_classes(logits).to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    classes = targets.reshape(-1)
    kept = classes != ignore_index
    weights = None if sample_weights is None else sample_weights.reshape(-1)[kept]
    values = surrogate(samples[kept], classes[kept], gamma, temperature, softmax_over_all, detach_gate)
    columns, mass = class_means(values, classes[kept], weights)
    return columns.T.contiguous(), mass


def confusion_backward(upstream: Tensor, logits: Tensor, targets: Tensor, sample_weights, mass, *options) -> Tensor:
    """`sum(upstream * confusion(...)[0])` differentiated with respect to the logits; `mass` is not needed here."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        matrix, _ = confusion(leaf, targets, sample_weights, *options)
        (grad,) = torch.autograd.grad(matrix, leaf, upstream)
    return grad.contiguous()


def spectral_norm(
    matrix: Tensor, start: Tensor | None, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top singular triple by a full SVD: same signature and results as the operator.

    Returns:
        sigma (0-dim), its left and right unit vectors (K,), not negative for a matrix that is not, and 0 for the
        operator's estimate of its error. For the zero matrix left is 0 and right is `start`.
    """
    left, values, right = torch.linalg.svd(matrix)
    sigma, left, right = values[0], left[:, 0], right[0]
    sign = right.sum().sign()
    if sigma == 0:
        begin = torch.full_like(right, len(right) ** -0.5) if start is None else start.clone()
        return sigma, torch.zeros_like(left), begin, torch.zeros_like(sigma)
    return sigma, left * sign, right * sign, torch.zeros_like(sigma)


def car_step(
    logits: Tensor,
    targets: Tensor,
    sample_weights: Tensor | None,
    class_weights: Tensor,
    ema: Tensor,
    updates: Tensor,
    direction: Tensor,
    spectral_error: Tensor,
    beta: float,
    gamma: float,
    temperature: float,
    softmax_over_all: bool,
    detach_gate: bool,
    start_from_first_batch: bool,
    hold_absent: bool,
    debias: bool,
    ignore_index: int,
    tolerance: float,
    max_iterations: int,
) -> tuple[Tensor, Tensor]:
    """One step of the regularizer with a full SVD: same signature, same state, same results as the fused operator.

    `C^_t = beta C^_{t-1} + (1 - beta) C~_t`, `sigma = || C^_t Lambda ||_2`, and d sigma / d logits by autograd.

    Args:
        logits: (N, K, *spatial), any strides. Computed in the dtype of `ema`.
        targets: (N, *spatial) int64; `ignore_index` entries take no part.
        sample_weights: like targets, not negative, or None.
        class_weights: (K,) the diagonal of Lambda.
        ema: (K, K) C^ transposed (row = true class), updated in place.
        updates: (K,) int64, how many batches have entered each column, updated in place.
        direction: (K,) left singular vector, the kernels' warm start, updated in place.
        spectral_error: one element, 0 here; the kernels' estimate of the angle between their u and the true one.
        start_from_first_batch: the first batch becomes C^_1 as a constant (the authors' code), not (1 - beta) of it.
        hold_absent: classes without a sample in the batch keep their column; otherwise it decays by beta.
        debias: divide column j by `1 - beta ** updates[j]`.
        tolerance, max_iterations: of the kernels' iteration; unused by an SVD.

    Returns:
        sigma (0-dim, dtype of `ema`) and d sigma / d logits (logits' shape and dtype, contiguous).
    """
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        form = (gamma, temperature, softmax_over_all, detach_gate, ignore_index)
        columns, mass = confusion(leaf, targets, sample_weights, *form)
        batch, present = columns.T, mass > 0
        entering = present | (not hold_absent)
        first = entering & (updates == 0) if start_from_first_batch else torch.zeros_like(present)
        mixed = torch.where(first, batch.detach(), beta * ema.T + (1 - beta) * batch)
        average = torch.where(entering, mixed, ema.T)
        count = updates + entering
        share = (
            torch.where(count > 0, 1 - beta ** count.to(ema.dtype), 1.0) if debias else torch.ones_like(class_weights)
        )
        weighted = average * (class_weights / share)
        left, values, _ = torch.linalg.svd(weighted)
        sigma = values[0]
        flat = bool(weighted.detach().abs().max() == 0)  # sigma has no derivative at the zero matrix: take 0
        (grad,) = (torch.zeros_like(leaf),) if flat else torch.autograd.grad(sigma, leaf)

    with torch.no_grad():
        ema.copy_(average.T)
        updates.copy_(count)
        if not flat:
            direction.copy_(left[:, 0].abs())
        spectral_error.zero_()
    return sigma.detach(), grad.contiguous()
