"""Ways to compute a training step that change its time or memory and not what is learnt."""

import dataclasses
import json

import pytest
import torch
from torch import nn
from torch._inductor import cpp_builder
from torch._inductor.exc import InvalidCxxCompiler

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.machine.device import Machine
from car_ext.models import small
from car_ext.models.classifier import build_model
from car_ext.run import checkpoint
from car_ext.run.classifier import load_run
from car_ext.training.callbacks import Callback
from car_ext.training.learner import Learner
from car_ext.training.objective import Objective
from car_ext.training.train import train

COUNTS = [40, 12, 3]


class Interrupt(Callback):
    def after_epoch(self, row) -> None:
        raise KeyboardInterrupt


def rows(config: Config) -> list[dict]:
    lines = (config.run_dir / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "images_per_second"} for line in lines]


def one_layer(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())


def test_a_compiled_run_learns_the_same_goes_on_to_the_bit_and_loads_as_any_other(tmp_path, monkeypatch):
    monkeypatch.setitem(small.NETWORKS, "one_layer", one_layer)  # quick to compile
    options = {"model": "one_layer", "regularizer": "car", "epochs": 2, "ema": 0.9, "device": "cpu"}
    plain, whole, config = (
        Config(out=str(tmp_path / name), compile=name != "plain", **options) for name in ("plain", "whole", "cut")
    )  # 5 batches an epoch, the last one smaller
    expected = train(plain, progress=False)
    found = train(whole, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(config, progress=False, callbacks=[Interrupt()])
    train(dataclasses.replace(config, resume=True), progress=False)
    assert rows(config) == rows(whole)
    assert rows(whole)[0]["loss"] == pytest.approx(rows(plain)[0]["loss"], rel=1e-3)
    assert found["overall_accuracy"] == pytest.approx(expected["overall_accuracy"], abs=0.05)
    names = [set(checkpoint.load_latest(run.run_dir)[1]) for run in (plain, whole)]
    assert names[0] == names[1]
    model, _ = load_run(whole.run_dir)
    assert model(torch.zeros(2, 8, 8, 1, dtype=torch.uint8)).isfinite().all()


def test_without_a_compiler_it_says_so(tmp_path, monkeypatch):
    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    config = Config(out=str(tmp_path / "run"), compile=True, device="cpu")
    with pytest.raises(InputError, match=r"--compile needs a C\+\+ compiler.*install g\+\+"):
        train(config, progress=False)
    assert not config.run_dir.exists()


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_activations_computed_anew_move_no_state_twice(name):
    learners, calls = [], []
    for checkpointing in (False, True):
        config, number = Config(model=name, checkpointing=checkpointing, accumulate=2, lr=0.01), 0
        torch.manual_seed(0)
        model = build_model(name, COUNTS, 32, 3, [0.5] * 3, [0.25] * 3)
        learner = Learner(config, model, Objective("ce", "car", COUNTS, {}), Machine("cpu", "none"), on_features=False)

        def count(*_):
            nonlocal number
            number += 1

        layers = model.backbone.blocks if name.startswith("vit") else model.backbone.layer2
        layers[0].register_forward_pre_hook(count)
        learner.set_epoch(1, 1)
        generator = torch.Generator().manual_seed(1)
        for step in range(4):
            images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8, generator=generator)
            learner.step(images, torch.tensor([0, 1, 2, 0, 1, 0]), 0.01, (step % 2, 2))
        learners.append(learner)
        calls.append(number)
    assert calls == [4, 8]  # it did compute them anew
    kept, anew = (learner.snapshot()[0] for learner in learners)
    assert kept.keys() == anew.keys()
    assert any(key.startswith("objective.car") for key in kept)
    for key, tensor in kept.items():
        assert torch.equal(tensor, anew[key]), key


def test_a_network_that_keeps_all_says_so(tmp_path):
    with pytest.raises(InputError, match=r"--checkpointing is not for --model convnet \(it is not of timm\)"):
        train(Config(out=str(tmp_path / "run"), checkpointing=True), progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{"compile": True, "checkpointing": True}, {"compile": True, "tune": "head"}])
def test_what_does_not_go_together_is_refused(options):
    with pytest.raises(InputError, match="compile"):
        Config(**options)
