"""Random inputs for the operators, and the comparison of their results with the float64 oracle."""

from dataclasses import dataclass, field

import torch

from car_ext import functional


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

    def __post_init__(self):
        g = torch.Generator().manual_seed(self.seed)
        shape = (self.samples, *self.spatial)
        state_dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.logits = (torch.randn(self.samples, self.classes, *self.spatial, generator=g) * self.scale).to(self.dtype)
        self.targets = torch.randint(0, self.classes, shape, generator=g)
        if self.ignored:
            self.targets[torch.rand(shape, generator=g) < 0.3] = self.options.ignore_index
        self.weights = torch.rand(shape, generator=g).to(state_dtype) if self.weighted else None
        history = torch.rand(self.classes, self.classes, generator=g) * 0.2 * (not self.cold)
        self.state = [
            (torch.rand(self.classes, generator=g) + 0.5).to(state_dtype),
            history.fill_diagonal_(0).to(state_dtype),
            torch.randint(0 if self.cold else 1, 1 if self.cold else 5, (self.classes,), generator=g),
            torch.full((self.classes,), self.classes**-0.5, dtype=state_dtype),
            torch.zeros((), dtype=state_dtype),
        ]

    def oracle(self):
        """sigma, grad, state after the step, all float64."""
        wide = [t.double().clone() if t.is_floating_point() else t.clone() for t in self.state]
        weights = None if self.weights is None else self.weights.double()
        sigma, grad = functional.car_step(self.logits.double(), self.targets, weights, *wide, *self.options.args())
        return sigma, grad, wide

    def upstream(self):
        """A gradient of the matrix: any sign, and transposed in memory."""
        g = torch.Generator().manual_seed(self.seed + 1)
        return torch.randn(self.classes, self.classes, generator=g).to(self.state[0].dtype).T

    def run(self, operator, logits=None):
        """The same from ``operator``; the case's own state is left alone."""
        state = [t.clone() for t in self.state]
        logits = self.logits if logits is None else logits
        sigma, grad = operator(logits, self.targets, self.weights, *state, *self.options.args())
        return sigma, grad, state


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
    assert grad.dtype == case.dtype
    assert grad.shape == case.logits.shape
    assert relative(sigma, true_sigma) <= for_sigma
    assert (state[1] - true_state[1]).abs().max() <= for_state
    assert torch.equal(state[2], true_state[2])
    # Subnormal half-precision entries cannot be relatively exact: compare against a floor.
    assert (grad.double() - true_grad).norm() <= for_grad * true_grad.norm() + 1e-6 * (
        case.dtype == torch.float16
    ) + 1e-12


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
    truth, true_mass = functional.confusion(*exact, *form)
    true_grad = functional.confusion_backward(upstream.double(), *exact, true_mass, *form)

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
    true_sigma, true_left, true_right, _ = functional.spectral_norm(matrix.double(), None, 0, 0)
    assert sigma.dtype == left.dtype == right.dtype == error.dtype == matrix.dtype
    assert relative(sigma, true_sigma) <= (1e-12 if wide else 2e-6)
    assert (left - true_left).norm() <= (1e-6 if wide else 1e-3)
    assert (right - true_right).norm() <= (1e-6 if wide else 1e-3)
    assert error <= (1e-8 if wide else 1e-4)
