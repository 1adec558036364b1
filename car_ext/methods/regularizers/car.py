"""CAR, the Confusion-Aware Spectral Regularizer, as a module to add to any classification loss."""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.methods.registry import register
from car_ext.methods.regularizers.ranks import dense_step
from car_ext.methods.regularizers.window import Form, Samples, WindowAverage
from car_ext.ops import operators as ops  # noqa: F401  (registers the operators)
from car_ext.ops.reference import rows_of_classes
from car_ext.option import check_fields, domain, is_allowed, option
from car_ext.priors import PerClass, relative_frequencies, spectral_weights
from car_ext.values import check


class Variant(NamedTuple):
    """Where the paper and the authors' published code part; each switch can be set on its own."""

    softmax_over_all: bool = False  # softmax over every class, then the true one masked; else over the others only
    detach_gate: bool = False  # the gate weighs the softmax but gets no gradient
    use_margin: bool = True  # gamma enters the gate
    start_from_first_batch: bool = False  # C^_1 is the first batch's matrix, as a constant
    normalize_weights: bool = False  # Lambda divided by its mean, then clamped to at least 1e-3


VARIANTS = {
    "paper": Variant(),
    "reference-code": Variant(
        softmax_over_all=True,
        detach_gate=True,
        use_margin=False,
        start_from_first_batch=True,
        normalize_weights=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class CAROptions:
    """What a job can set of `CAR`: by the word `car:alpha=1`, by `--car-alpha 1` or by `car: {alpha: 1}` in YAML."""

    alpha: float = option(0.5, "method", "weight of the regularizer in the loss", low=0)
    beta: float = option(
        0.5, "method", "memory of the running confusion matrix: 0 sees only the current batch", low=0, below=1
    )
    r0: float = option(
        0.2, "method", "smoothing of the class weights (frequency + r0)^-1/2; smaller favours rare ones", above=0
    )
    gamma: float = option(0.1, "method", "margin a competing logit has to be beaten by")
    temperature: float = option(1.0, "method", "temperature of the softmax over competing classes", above=0)
    prior: float = option(
        0.0, "method", "CAR sees logits + this times log frequency; 0 as published, 1 as balanced softmax does"
    )
    variant: str = option(
        "paper", "method", "definition in the paper, or the behaviour of its published code", choices=VARIANTS
    )
    absent: str = option(
        "decay",
        "method",
        "what happens to the confusions of a class missing from a batch: "
        "decay as published, or hold, better with many classes",
        choices=("decay", "hold"),
    )
    debias: bool = option(False, "method", "correct the running matrix for starting at zero")
    estimator: str = option(
        "dense",
        "method",
        "how the running matrix is kept: whole, or as the columns of the classes of the last batches, for 10,000 "
        "classes and more",
        choices=("dense", "window"),
    )
    window: int | None = option(
        None, "method", "how many batches these are; default: until beta to their power is 2^-24, 24 for 0.5", low=1
    )

    def __post_init__(self) -> None:
        check_fields(self, prefix="car.")


@register(
    "regularizer",
    "car",
    title="Confusion-aware spectral regularizer (CAR)",
    source="arXiv 2603.16732, CVPR 2026",
    formula="alpha || C^_t diag((m_j + r0)^(-1/2)) ||_2, C^_t the moving average of a soft confusion matrix",
    published="ViT-S from scratch: CIFAR100-LT IR100 51.85, ImageNet-LT 57.48",
    notes="its options are also the flags --car-...; variant=reference-code is what the authors' code computes",
    options=CAROptions,
)
class CAR(nn.Module):
    """`alpha * || C^_t Lambda ||_2`, added to the loss of a training step.

    C^_t is a moving average of a differentiable confusion matrix (predicted x true, zero diagonal) and
    `Lambda = diag((m_j + r0) ** -0.5)` weighs the columns by the classes' training frequencies m_j.
    Source: arXiv 2603.16732 (CVPR 2026), Eq. 7 and the EMA after it; `docs/kernel.md` derives the gradient.

        car = CAR(class_counts)
        loss = F.cross_entropy(logits, targets) + car(logits, targets)

    The average moves only in training mode with gradients enabled; `eval()` or `no_grad()` returns the value that
    the batch would give and leaves the state alone. The state is buffers: it is saved, loaded, copied and moved with
    the module.

    Gradients are of first order: differentiating one again, as after `create_graph=True`, is an error. Under
    `DistributedDataParallel` give a `process_group`: without one, every process keeps an average of its own batches,
    and checkpoints hold that of the process that writes them.

    Args:
        class_counts: (K,) training images of each class, K >= 2, all at least 1.
        alpha: strength. 0.5 in the paper.
        beta: weight of the past in the moving average, in [0, 1). 0.5 in the paper.
        r0: softens Lambda, > 0. 0.2 in the paper.
        gamma: margin inside the gate. 0.1.
        temperature: of the soft argmax. 1 in the paper.
        prior: what CAR compares is `logits + prior * log(frequency)`. 0 in the paper. With 1, confusions count as
            balanced softmax and logit adjustment (Menon et al., 2021) see them: a rare class has to win by more.
        variant: "paper", "reference-code" (as the authors' published code computes it) or a `Variant`.
        absent: what a batch does to the columns of classes it does not hold. "decay" (as published): they shrink by
            beta. "hold": they keep their value, and each is divided by `1 - beta ** updates` of its own.
        estimator: "dense" keeps the average as a (K, K) matrix. "window" keeps the columns of the classes of the last
            `window` batches, as many rows of K numbers, and no (K, K) matrix anywhere: for 10,000 classes and more. It
            is plain PyTorch, neither scripted nor exported, and may round otherwise at another thread count.
        window: see `WindowAverage`.
        debias: with "decay", divide by `1 - beta ** steps` (as Adam does), so the first steps are not too small.
        tolerance: of the spectral iteration: the angle in radians that the singular vector may be off.
        max_iterations: its cap; each reads the matrix once.
        process_group: of torch.distributed, such as `torch.distributed.group.WORLD`: its ranks' batches are one batch,
            and their averages the same, whatever the number of ranks. Every rank must call `forward` in every step, one
            without samples too. Gradients are multiplied by the ranks, by which `DistributedDataParallel` divides.
            Each rank sends its classes' columns, (C, K) numbers.

    Shapes of `forward`:
        logits (N, K) or (N, K, *spatial), float32, bfloat16, float16 or float64 (then `car.double()`); any strides.
        targets (N,) or (N, *spatial), int64; entries equal to `ignore_index` take no part.
        sample_weights like targets or None. A mixed sample (Mixup, CutMix) is two weighted samples.

    Raises:
        InputError: class_counts that are not counts, or an option out of range.
        RuntimeError: logits and targets that do not fit; a target out of range; NaN or infinite logits (CPU).
    """

    class_weights: Tensor
    offset: Tensor
    ema: Tensor
    updates: Tensor
    direction: Tensor
    spectral_error: Tensor

    def __init__(
        self,
        class_counts: PerClass,
        alpha: float = CAROptions.alpha,
        beta: float = CAROptions.beta,
        r0: float = CAROptions.r0,
        gamma: float = CAROptions.gamma,
        temperature: float = CAROptions.temperature,
        prior: float = CAROptions.prior,
        variant: str | Variant = CAROptions.variant,
        absent: str = CAROptions.absent,
        debias: bool = CAROptions.debias,
        estimator: str = CAROptions.estimator,
        window: int | None = CAROptions.window,
        ignore_index: int = -100,
        tolerance: float = 1e-5,
        max_iterations: int = 96,
        process_group: Any = None,
    ):
        super().__init__()
        given: dict[str, Any] = {"alpha": alpha, "beta": beta, "r0": r0, "gamma": gamma, "temperature": temperature}
        given |= {"prior": prior, "absent": absent, "estimator": estimator}
        given |= {} if isinstance(variant, Variant) else {"variant": variant}
        given |= {} if window is None else {"window": window}
        for field in fields(CAROptions):
            if field.name in given:
                check(field.name, given[field.name], is_allowed(field, given[field.name]), domain(field))
        if not isinstance(variant, Variant):
            variant = VARIANTS[variant]

        weights = torch.from_numpy(spectral_weights(class_counts, r0))
        if variant.normalize_weights:
            weights = (weights / weights.mean()).clamp_min(1e-3)
        classes = len(weights)

        self.alpha = float(alpha)
        self.beta = float(beta)
        self.gamma = float(gamma) if variant.use_margin else 0.0
        self.temperature = float(temperature)
        self.prior = float(prior)
        self.softmax_over_all = variant.softmax_over_all
        self.detach_gate = variant.detach_gate
        self.start_from_first_batch = variant.start_from_first_batch
        self.hold_absent = absent == "hold"
        self.debias = (debias or self.hold_absent) and not variant.start_from_first_batch
        self.ignore_index = ignore_index
        self.tolerance = float(tolerance)
        self.max_iterations = max_iterations

        self.register_buffer("class_weights", weights.float())
        offset = self.prior * torch.from_numpy(relative_frequencies(class_counts)).log()
        self.register_buffer("offset", offset.float(), persistent=False)
        self.process_group = process_group
        self.recent: WindowAverage | None = None
        if estimator == "window":
            self.recent = WindowAverage(
                classes, self.beta, self.start_from_first_batch, self.hold_absent, self.debias, window
            )
            return
        if window is not None:
            raise InputError(f"window is {window}, but estimator is dense: add estimator=window, or leave window out")
        self.register_buffer("ema", torch.zeros(classes, classes))  # C^ transposed: a row is a true class
        self.register_buffer("updates", torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("direction", torch.full((classes,), classes**-0.5))
        self.register_buffer("spectral_error", torch.zeros(()))

    def forward(self, logits: Tensor, targets: Tensor, sample_weights: Tensor | None = None) -> Tensor:
        if logits.dtype == torch.float16:
            # float16 would round small gradients to zero before a gradient scaler's factor reaches them.
            logits = logits.float()
        logits = self.adjust(logits)
        if self.recent is not None:
            return self._of_window(logits, targets, sample_weights)
        if self.process_group is not None:
            return self._of_ranks(logits, targets, sample_weights)
        ema, updates, direction, error = self.ema, self.updates, self.direction, self.spectral_error
        if not (self.training and torch.is_grad_enabled()):
            ema, updates, direction, error = ema.clone(), updates.clone(), direction.clone(), error.clone()
        sigma, grad = torch.ops.car_ext.car_step(
            logits.detach(),
            targets,
            sample_weights,
            self.alpha * self.class_weights,  # alpha || C Lambda || = || C (alpha Lambda) ||
            ema,
            updates,
            direction,
            error,
            self.beta,
            self.gamma,
            self.temperature,
            self.softmax_over_all,
            self.detach_gate,
            self.start_from_first_batch,
            self.hold_absent,
            self.debias,
            self.ignore_index,
            self.tolerance,
            self.max_iterations,
        )
        return torch.ops.car_ext.attach_gradient(logits, sigma, grad)

    @torch.jit.unused
    def _of_window(self, logits: Tensor, targets: Tensor, sample_weights: Tensor | None) -> Tensor:
        assert self.recent is not None
        rows, classes = rows_of_classes(logits.detach()), targets.reshape(-1)
        kept = classes != self.ignore_index
        masses = torch.ones_like(rows[:, 0]) if sample_weights is None else sample_weights.reshape(-1)
        _check_batch(rows, classes, masses, kept)
        kept = kept & (masses > 0)
        dtype = self.class_weights.dtype
        if not kept.all():
            rows, classes, masses = rows[kept], classes[kept], masses[kept]
        sigma, gradient = self.recent(
            Samples(rows.to(dtype), classes, masses.to(dtype)),
            self.alpha * self.class_weights,
            Form(self.gamma, self.temperature, self.softmax_over_all, self.detach_gate),
            self.tolerance,
            self.max_iterations,
            self.training and torch.is_grad_enabled(),
            self.process_group,
        )
        if not kept.all():
            every = gradient.new_zeros(len(kept), gradient.shape[1])
            gradient = every.index_copy_(0, torch.nonzero(kept)[:, 0], gradient)
        gradient = gradient.to(logits.dtype).reshape(*targets.shape, -1).movedim(-1, 1).contiguous()
        return torch.ops.car_ext.attach_gradient(logits, sigma, gradient)

    @torch.jit.unused
    def _of_ranks(self, logits: Tensor, targets: Tensor, sample_weights: Tensor | None) -> Tensor:
        keep = self.training and torch.is_grad_enabled()
        with torch.no_grad():
            sigma, gradient = dense_step(self, logits.detach(), targets, sample_weights, keep)
        return torch.ops.car_ext.attach_gradient(logits, sigma, gradient)

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits (N, K, *spatial) that CAR compares: with the class prior, where `prior` is not 0."""
        if self.prior == 0:
            return logits
        return logits + self.offset.reshape([-1] + [1] * (logits.dim() - 2))

    def average(self) -> Tensor:
        """C^_t (K, K) as the loss has it, debiased where that is on; row = predicted, column = true."""
        if self.recent is not None:
            return self.recent.matrix()
        return (self.ema / self.share(self.updates)[:, None]).T

    @torch.jit.unused
    def share(self, updates: Tensor) -> Tensor:
        """(K,): what each column is divided by, after so many updates of it (K,)."""
        if not self.debias:
            return torch.ones_like(self.class_weights)
        return torch.where(updates > 0, 1 - self.beta ** updates.to(self.ema.dtype), 1.0)

    def extra_repr(self) -> str:
        return (
            f"classes={len(self.class_weights)}, alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}, "
            f"temperature={self.temperature}, prior={self.prior}, absent={'hold' if self.hold_absent else 'decay'}"
        )


def _check_batch(rows: Tensor, classes: Tensor, masses: Tensor, kept: Tensor) -> None:
    """What the operator refuses, where nothing else does.

    Raises:
        RuntimeError: the parts do not fit, a target is out of range, a weight negative, or a logit NaN or infinite.
    """
    if not len(rows) == len(classes) == len(masses):
        raise RuntimeError(f"CAR: {len(rows)} samples, but {len(classes)} targets and {len(masses)} weights")
    if kept.any() and not 0 <= int(classes[kept].min()) <= int(classes[kept].max()) < rows.shape[1]:
        raise RuntimeError(f"CAR: a target is outside 0 .. {rows.shape[1] - 1}")
    if bool((masses < 0).any()):
        raise RuntimeError("CAR: a sample weight is negative")
    if not bool((rows[kept] < torch.inf).all()):
        raise RuntimeError("CAR: a logit is NaN or infinite")
