"""The optimiser of a job: its momentum and rates."""

import pytest
import torch

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.training.optimizer import build_optimizer, rate_of_step


def test_nesterov_s_step_is_its_formula():
    """v = mu v + g, w -= lr (g + mu v), Sutskever et al., ICML 2013, as PyTorch writes it."""
    module = torch.nn.Linear(1, 1, bias=False).double()
    config = Config(optimizer="sgd", nesterov=True, momentum=0.9, weight_decay=0.0, lr=0.1)
    optimizer, weight, velocity = build_optimizer(config, module), module.weight.item(), 0.0
    for gradient in (1.0, -0.5, 2.0):
        module.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
        optimizer.step()
        velocity = 0.9 * velocity + gradient
        weight -= 0.1 * (gradient + 0.9 * velocity)
        assert module.weight.item() == pytest.approx(weight, abs=1e-12)


def test_nesterov_needs_momentum():
    with pytest.raises(InputError, match="nesterov is a form of momentum, but momentum is 0"):
        Config(optimizer="sgd", nesterov=True, momentum=0.0)


def test_a_constant_rate_stays_after_the_warm_up():
    config = Config(schedule="constant", warmup_epochs=2, epochs=10, lr=0.5)
    rates = [rate_of_step(step, 5, config) for step in range(50)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[0] < 0.1
    assert set(rates[10:]) == {0.5}
