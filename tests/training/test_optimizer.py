"""The optimiser of a job: its momentum and rates."""

import json

import pytest
import torch

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.machine.device import Machine
from car_ext.machine.kernels import threads
from car_ext.models.classifier import build_model
from car_ext.run.checkpoint import pack_optimizer, unpack_optimizer
from car_ext.training.learner import Learner
from car_ext.training.objective import Objective
from car_ext.training.optimizer import build_optimizer, learning_rate, part_of_update, rate_of_step, updates_per_epoch


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


@pytest.mark.parametrize("options", [{"optimizer": "adamw"}, {"optimizer": "sgd", "nesterov": True}])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_fused_update_is_the_plain_one_and_goes_on_from_its_checkpoint(options, count, layout):
    torch.manual_seed(0)
    shape = 3, 10, 97, 73  # several pieces for two threads
    start, gradients = torch.randn(shape).to(memory_format=layout), torch.randn(6, *shape)
    config = Config(lr=0.1, weight_decay=0.02, **options)

    def steps(weight, optimizer, which):
        for gradient in gradients[which]:
            weight.grad = gradient.to(weight, memory_format=layout)
            optimizer.step()

    def made(value, plain=False):
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(value.clone())
        optimizer = build_optimizer(config, module)
        (group,) = optimizer.param_groups
        assert group["fused"]
        group |= {"fused": False, "foreach": False} if plain else {}
        return module.weight, optimizer

    plain, oracle = made(start.double(), plain=True)
    steps(plain, oracle, slice(6))
    with threads(count):
        whole, optimizer = made(start)
        steps(whole, optimizer, slice(6))
        torch.testing.assert_close(whole.double(), plain, rtol=1e-5, atol=1e-5)
        broken, optimizer = made(start)
        steps(broken, optimizer, slice(3))
        tensors, groups = pack_optimizer(optimizer)
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}  # as a file holds them
        resumed, optimizer = made(broken.detach())
        unpack_optimizer(optimizer, tensors, json.loads(json.dumps(groups)))
        steps(resumed, optimizer, slice(3, 6))
    assert torch.equal(resumed, whole)
    with threads(3 - count):
        again, optimizer = made(start)
        steps(again, optimizer, slice(6))
    assert torch.equal(again, whole)


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


def test_a_run_may_be_all_warm_up():
    config = Config(epochs=1, warmup_epochs=1, lr=0.5)
    assert rate_of_step(4, 5, config) == pytest.approx(0.5 * 5 / 6)
    assert rate_of_step(5, 5, config) == 0  # after the last step


def test_a_constant_rate_stays_after_the_warm_up():
    config = Config(schedule="constant", warmup_epochs=2, epochs=10, lr=0.5)
    rates = [rate_of_step(step, 5, config) for step in range(50)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[0] < 0.1
    assert set(rates[10:]) == {0.5}


def learner(config: Config) -> Learner:
    torch.manual_seed(0)
    model = build_model("convnet", [5] * 3, 8, 1, [0.5], [0.5])
    model.backbone = torch.nn.Flatten()  # no layer that mixes the images of a batch
    model.head = torch.nn.Linear(64, 3)
    objective = Objective("ce", "none", [5] * 3, {})
    return Learner(config, model, objective, Machine("cpu", "none"), on_features=False)


def images(number: int) -> torch.Tensor:
    return torch.randint(0, 256, (number, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))


def test_batches_of_a_step_are_one_large_batch():
    config, inputs, targets = Config(clip_grad=0.1), images(8), torch.arange(8) % 3
    whole, parts = learner(config), learner(config)
    whole.step(inputs, targets, 0.01)
    before = parts.model.head.weight.detach().clone()
    for number in range(2):
        assert torch.equal(parts.model.head.weight, before)
        parts.step(inputs[4 * number :][:4], targets[4 * number :][:4], 0.01, (number, 2))
    torch.testing.assert_close(parts.model.head.weight, whole.model.head.weight)


def test_the_last_step_of_an_epoch_has_the_batches_that_are_left():
    config = Config(accumulate=3)
    assert updates_per_epoch(7, config) == 3
    parts = [part_of_update(batch, 7, config) for batch in range(7)]
    assert parts == [(0, 3), (1, 3), (2, 3), (0, 3), (1, 3), (2, 3), (0, 1)]


def test_the_average_of_the_weights_is_its_formula():
    found = learner(Config(ema=0.5, optimizer="sgd", momentum=0, weight_decay=0))
    expected = None
    for step in range(1, 5):
        found.step(images(6), torch.arange(6) % 3, 1.0)
        weight = found.model.head.weight.detach().clone()
        stays = min(0.5, 1 - step ** (-2 / 3))  # none of the initial weights
        expected = weight if expected is None else stays * expected + (1 - stays) * weight
        torch.testing.assert_close(found.result.head.weight, expected)
    assert found.scored is found.result
    assert not torch.equal(found.result.head.weight, found.model.head.weight)


def test_learning_rate():
    rates = [learning_rate(step, 100, 10, 1.0, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == max(rates) == 1.0
    assert rates[55] == pytest.approx(0.55)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert 0.1 < rates[-1] < 0.101
    assert learning_rate(0, 10, 0, 1.0, 0.0) == 1.0


def test_learning_rate_in_steps():
    rates = [learning_rate(step, 100, 10, 1.0, 0.1, [60, 80], 0.5) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10:] == [1.0] * 50 + [0.5] * 20 + [0.25] * 20


def test_the_published_staircase_of_ldam():
    config = Config(schedule="step", step_epochs="160,180", step_factor=0.01, epochs=200, lr=0.1, warmup_epochs=5)
    after = {epoch: rate_of_step(epoch * 7, 7, config) for epoch in (5, 159, 160, 179, 180, 199)}
    assert list(after.values()) == pytest.approx([0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5])
    assert rate_of_step(160 * 7 - 1, 7, config) == 0.1
