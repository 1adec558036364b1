"""The optimiser of a job: its momentum and rates."""

import pytest
import torch

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.machine.device import Machine
from car_ext.models.classifier import build_model
from car_ext.training.learner import Learner
from car_ext.training.objective import Objective
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


def test_layers_and_normalisations_have_rates_and_decays_of_their_own():
    model = build_model("resnet10t", [5] * 3, 32, 3, [0.5] * 3, [0.5] * 3)
    config = Config(lr=0.1, weight_decay=0.3, layer_decay=0.5, decay_norm=False)
    found = {}
    for group in build_optimizer(config, model, torch.nn.Linear(2, 2)).param_groups:
        found |= {id(weight): (group.get("lr_scale", 1), group["weight_decay"]) for weight in group["params"]}
    backbone = model.backbone
    assert found[id(model.head.weight)] == (1, 0.3)
    assert found[id(model.head.bias)] == (1, 0)
    assert found[id(backbone.layer4[0].conv1.weight)] == (1, 0.3)
    assert found[id(backbone.layer4[0].bn1.weight)] == (1, 0)
    assert found[id(backbone.layer3[0].conv1.weight)] == (0.5, 0.3)
    assert found[id(backbone.conv1[0].weight)] == (0.5**4, 0.3)
    assert len(found) == len(list(model.parameters())) + 2
    (group,) = build_optimizer(Config(), model).param_groups
    assert len(group["params"]) == len(list(model.parameters()))
    with pytest.raises(InputError, match="--layer-decay needs the layers of a timm model"):
        build_optimizer(config, build_model("convnet", [5] * 3, 8, 1, [0.5], [0.5]))


def test_a_step_takes_each_layer_s_rate():
    torch.manual_seed(0)
    model = build_model("resnet10t", [5] * 3, 32, 3, [0.5] * 3, [0.5] * 3)
    config = Config(optimizer="sgd", momentum=0, weight_decay=0, layer_decay=0.5)
    learner = Learner(config, model, Objective("ce", "none", [5] * 3, {}), Machine("cpu", "none"), on_features=False)
    learner.set_epoch(1, 1)
    images, targets = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8), torch.tensor([0, 1, 2, 0])
    for weight, scale in ((model.head.weight, 1), (model.backbone.layer3[0].conv1.weight, 0.5)):
        before = weight.detach().clone()
        learner.step(images, targets, 0.1)
        torch.testing.assert_close(before - weight, 0.1 * scale * weight.grad)
    assert learner.rate == 0.1


def test_nesterov_needs_momentum():
    with pytest.raises(InputError, match="nesterov is a form of momentum, but momentum is 0"):
        Config(optimizer="sgd", nesterov=True, momentum=0.0)


def test_a_constant_rate_stays_after_the_warm_up():
    config = Config(schedule="constant", warmup_epochs=2, epochs=10, lr=0.5)
    rates = [rate_of_step(step, 5, config) for step in range(50)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[0] < 0.1
    assert set(rates[10:]) == {0.5}
