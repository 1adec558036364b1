"""Random inputs for the operators, and the comparison of their results with the float64 oracles, on any device."""

import copy
import itertools
from dataclasses import dataclass, field

import torch

from car_ext.ops import reference

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
FORMS = [
    {"softmax_over_all": a, "detach_gate": d, "start_from_first_batch": f, "hold_absent": h, "debias": b}
    for a, d, f, h, b in itertools.product([False, True], repeat=5)
    if not (f and b)
]
LARGEST_SVD = 300  # classes; beyond, the oracle iterates


def name_of(form: dict[str, bool]) -> str:
    return "+".join(name for name, chosen in form.items() if chosen) or "paper"


def tolerance_of(dtype: torch.dtype) -> float:
    """Of the spectral iteration: float32 cannot hold the angle to 1e-7."""
    return 1e-7 if dtype == torch.float64 else 1e-5


@dataclass
class Options:
    beta: float = 0.6
    gamma: float = 0.1
    temperature: float = 1.0
    softmax_over_all: bool = False
    detach_gate: bool = False
    start_from_first_batch: bool = False
    hold_absent: bool = False
    debias: bool = False
    ignore_index: int = -100
    tolerance: float = 1e-7
    max_iterations: int = 400

    def args(self):
        return tuple(vars(self).values())

    def form(self):
        """Those that ``confusion`` has."""
        return self.gamma, self.temperature, self.softmax_over_all, self.detach_gate, self.ignore_index


@dataclass
class Case:
    """One call of car_step: (logits, targets, sample_weights), the module's state and the options."""

    samples: int
    classes: int
    dtype: torch.dtype = torch.float64
    seed: int = 0
    scale: float = 3.0
    weighted: bool = False
    ignored: bool = False
    cold: bool = False
    spatial: tuple[int, ...] = ()
    options: Options = field(default_factory=Options)
    device: str = "cpu"

    def __post_init__(self):
        on = {"device": self.device, "generator": torch.Generator(self.device).manual_seed(self.seed)}
        shape = (self.samples, *self.spatial)
        state_dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.logits = (torch.randn(self.samples, self.classes, *self.spatial, **on) * self.scale).to(self.dtype)
        self.targets = torch.randint(0, self.classes, shape, **on)
        if self.ignored:
            self.targets[torch.rand(shape, **on) < 0.3] = self.options.ignore_index
        self.weights = torch.rand(shape, **on).to(state_dtype) if self.weighted else None
        history = torch.rand(self.classes, self.classes, **on) * 0.2 * (not self.cold)
        self.state = [
            (torch.rand(self.classes, **on) + 0.5).to(state_dtype),
            history.fill_diagonal_(0).to(state_dtype),
            torch.randint(0 if self.cold else 1, 1 if self.cold else 5, (self.classes,), **on),
            torch.full((self.classes,), self.classes**-0.5, dtype=state_dtype, device=self.device),
            torch.zeros((), dtype=state_dtype, device=self.device),
        ]

    def arguments(self):
        """What car_step takes; the state is a copy."""
        return (self.logits, self.targets, self.weights, *(t.clone() for t in self.state), *self.options.args())

    def oracle(self):
        """sigma, grad, state after the step, all float64."""
        few = self.classes <= LARGEST_SVD
        step, place = (reference.car_step, "cpu") if few else (car_step_by_power_iteration, self.device)
        tensors = [self.logits, self.targets, self.weights, *self.state]
        wide = [None if t is None else _widened(t, place) for t in tensors]
        sigma, grad = step(*wide, *self.options.args())
        return sigma.to(self.device), grad.to(self.device), [t.to(self.device) for t in wide[3:]]

    def upstream(self):
        """A gradient of the matrix: any sign, and transposed in memory."""
        on = {"device": self.device, "generator": torch.Generator(self.device).manual_seed(self.seed + 1)}
        return torch.randn(self.classes, self.classes, **on).to(self.state[0].dtype).T

    def run(self, operator, logits=None):
        """The same from ``operator``; the case's own state is left alone."""
        state = [t.clone() for t in self.state]
        logits = self.logits if logits is None else logits
        sigma, grad = operator(logits, self.targets, self.weights, *state, *self.options.args())
        return sigma, grad, state


def _widened(tensor, place):
    return tensor.to(place, torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True)


def car_step_by_power_iteration(
    logits, targets, sample_weights, class_weights, ema, updates, direction, spectral_error, *options
):
    """reference.car_step for logits (B, K) with K too large for an SVD: same arguments, results and state.

    d sigma / dM = u w^T, so with u and w held still, u^T M w has the gradient of sigma.
    """
    o = Options(*options)
    weights = torch.ones_like(targets, dtype=logits.dtype) if sample_weights is None else sample_weights
    kept = targets.reshape(-1) != o.ignore_index
    y, weights = targets.reshape(-1)[kept], weights.reshape(-1)[kept]
    leaf = logits.detach().requires_grad_()
    form = (o.gamma, o.temperature, o.softmax_over_all, o.detach_gate)
    values = reference.surrogate(reference.rows_of_classes(leaf)[kept], y, *form)
    mass = torch.zeros_like(class_weights).index_add_(0, y, weights)
    entering = (mass > 0) | (not o.hold_absent)
    first = entering & (updates == 0) & o.start_from_first_batch
    one = torch.ones_like(mass)
    keep = torch.where(entering, o.beta * one, one)
    take = torch.where(first, one, (1 - o.beta) * one)
    share = take[y] * weights / torch.where(mass > 0, mass, one)[y]  # of each sample in its class's column

    ema *= torch.where(first, 0.0, keep)[:, None]
    ema.index_add_(0, y, share[:, None] * values.detach())
    updates += entering
    filled = torch.where(updates > 0, 1 - (o.beta * one) ** updates, one) if o.debias else one
    scale = class_weights / filled

    u = torch.full_like(direction, len(direction) ** -0.5)
    for _ in range(5000):
        w = scale * (ema @ u)
        if not w.any():
            return w.sum(), torch.zeros_like(logits)
        w /= w.norm()
        image = ema.T @ (scale * w)
        sigma = image.norm()
        change = (image / sigma - u).norm()
        u = image / sigma
        if change < 1e-12:
            break
    assert change < 1e-9, "the oracle's own iteration must converge: take another case"
    direction.copy_(u)
    learnt = torch.where(first[y], 0.0, share * (scale * w)[y])
    (grad,) = torch.autograd.grad((learnt * (values @ u)).sum(), leaf)
    return sigma, grad


def relative(value, truth) -> float:
    return ((value.double() - truth).norm() / truth.norm().clamp_min(1e-30)).item()


# sigma, gradient, state. float64: what the iteration's tolerance leaves. float32: rounding of sums of up to a few
# hundred terms; the gradient also carries the singular vector's error, rounding divided by the spectral gap.
# Half types: their gradient is rounded to 8 or 11 bits when written.
TOLERANCE = {
    torch.float64: (1e-10, 1e-5, 1e-12),
    torch.float32: (3e-6, 3e-4, 3e-6),
    torch.bfloat16: (3e-6, 5e-3, 3e-6),
    torch.float16: (3e-6, 2e-3, 3e-6),
}


def assert_matches_oracle(case: Case, operator, logits=None):
    sigma, grad, state = case.run(operator, logits)
    true_sigma, true_grad, true_state = case.oracle()
    for_sigma, for_grad, for_state = TOLERANCE[case.dtype]
    for_sigma *= max(1, len(case.targets) / case.classes / 300) ** 0.5  # rounding of longer sums: a random walk
    assert grad.dtype == case.dtype
    assert grad.shape == case.logits.shape
    assert relative(sigma, true_sigma) <= for_sigma
    assert (state[1] - true_state[1]).abs().max() <= for_state
    assert torch.equal(state[2], true_state[2])
    # Subnormal float16 entries cannot be relatively exact: each may be off by half the smallest number.
    floor = 2**-25 * grad.numel() ** 0.5 if case.dtype == torch.float16 else 1e-12
    assert (grad.double() - true_grad).norm() <= for_grad * true_grad.norm() + floor


def layouts(logits):
    """The same values at other strides."""
    yield logits.transpose(0, 1).contiguous().transpose(0, 1)
    wide = logits.new_full((*logits.shape[:-1], 3 * logits.shape[-1]), 7.0)
    wide[..., 2::3] = logits
    yield wide[..., 2::3]
    if logits.dim() == 4:
        yield logits.to(memory_format=torch.channels_last)
        yield logits.transpose(2, 3).contiguous().transpose(2, 3)


def assert_same_bits(one, other):
    """Of two results of Case.run."""
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert all(torch.equal(a, b) for a, b in zip(one[2], other[2], strict=True))


def assert_a_bad_sample_spares_the_state(case: Case, operator, spoil):
    """``spoil(case)`` makes sample 2 unusable. A kernel cannot raise: see docs/kernel.md."""
    truth = copy.copy(case)
    truth.targets = case.targets.clone()
    truth.targets[2] = case.options.ignore_index
    spoil(case)
    sigma, grad, state = case.run(operator)
    assert sigma.isnan()
    assert grad[2].isnan().all()
    assert grad[[q for q in range(case.samples) if q != 2]].isfinite().all()
    torch.testing.assert_close(state[1], truth.oracle()[2][1].to(state[1].dtype))


def two_blocks(classes, **fields) -> Case:
    """Two groups of classes that do not touch, of almost the same norm; the iteration starts inside the wrong one."""
    case = Case(0, classes, cold=True, options=Options(hold_absent=True), **fields)
    half = classes // 2
    case.state[1][:half, :half] = 0.6 / classes
    case.state[1][half:, half:] = 0.60006 / classes
    case.state[0].fill_(1)
    case.state[3].zero_()[:half] = half**-0.5
    return case


# Matrix; gradient, relative as it is rounded when written, and absolute: with two classes its terms cancel, and
# subnormal halves cannot be relatively exact.
CONFUSION_TOLERANCE = {
    torch.float64: (1e-14, 1e-12, 1e-12),
    torch.float32: (2e-6, 5e-6, 1e-7),
    torch.bfloat16: (2e-6, 5e-3, 1e-7),
    torch.float16: (2e-6, 2e-3, 1e-6),
}


def assert_confusion_matches(forward, backward, case: Case, logits=None):
    logits = case.logits if logits is None else logits
    form, upstream = case.options.form(), case.upstream()
    exact = (case.logits.double(), case.targets, None if case.weights is None else case.weights.double())
    truth, true_mass = reference.confusion(*exact, *form)
    true_grad = reference.confusion_backward(upstream.double(), *exact, true_mass, *form)

    matrix, mass = forward(logits, case.targets, case.weights, *form)
    grad = backward(upstream, logits, case.targets, case.weights, mass, *form)
    for_matrix, for_grad, floor = CONFUSION_TOLERANCE[case.dtype]
    assert matrix.dtype == mass.dtype == upstream.dtype
    assert grad.dtype == case.dtype
    assert grad.shape == case.logits.shape
    assert grad.is_contiguous()
    assert (matrix - truth).abs().max() <= for_matrix
    assert relative(mass, true_mass) <= 1e-6
    assert (grad.double() - true_grad).norm() <= for_grad * true_grad.norm() + floor


def random_matrix(kind: str, k: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    matrix = torch.rand(k, k, generator=g, dtype=torch.float64)
    if kind == "sparse":
        matrix *= torch.rand(k, k, generator=g, dtype=torch.float64) < 0.1
    elif kind == "rank one":
        matrix = torch.outer(matrix[0], matrix[-1])
    elif kind == "permutation":
        matrix = torch.eye(k, dtype=torch.float64)[torch.randperm(k, generator=g)]
        matrix *= torch.linspace(0.2, 1, k, dtype=torch.float64)
    return matrix


def assert_triple_matches(matrix, operator):
    wide = matrix.dtype == torch.float64
    sigma, left, right, error = operator(matrix, None, 1e-10 if wide else 1e-5, 400)
    true_sigma, true_left, true_right, _ = reference.spectral_norm(matrix.double(), None, 0, 0)
    assert sigma.dtype == left.dtype == right.dtype == error.dtype == matrix.dtype
    assert relative(sigma, true_sigma) <= (1e-12 if wide else 2e-6)
    assert (left - true_left).norm() <= (1e-6 if wide else 1e-3)
    assert (right - true_right).norm() <= (1e-6 if wide else 1e-3)
    assert error <= (1e-8 if wide else 1e-4)
