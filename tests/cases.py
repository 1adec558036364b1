"""Random inputs and state for car_step, and the comparison with the float64 oracle."""

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
