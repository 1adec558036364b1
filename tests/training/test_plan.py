"""A plan says what training would do, and does nothing."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from hears import Hears

from car_ext.cli.flags import parse
from car_ext.config.config import Config
from car_ext.config.recipe import second_stage
from car_ext.errors import InputError
from car_ext.methods.regularizers.car import CAR
from car_ext.models.classifier import build_model
from car_ext.training.memory import activation_bytes, car_bytes
from car_ext.training.optimizer import rate_of_step
from car_ext.training.plan import ClassCounts, plan
from car_ext.training.train import train

TRAIN = Path(__file__).parents[2] / "train"


def recipe(name: str, *flags: str) -> Config:
    return parse(["--config", name, *flags])


def on_meta(name: str, image_size: int, channels: int, **options):
    with torch.device("meta"):
        return build_model(name, [3] * 10, image_size, channels, [0.5] * channels, [0.5] * channels, **options)


def test_the_default_job_by_hand():
    found = plan(Config(regularizer="car"))
    assert (found.counts.classes, found.counts.total, found.counts.largest, found.counts.smallest) == (10, 276, 100, 2)
    assert found.groups == {"many": 0, "medium": 4, "few": 6}
    assert (found.steps_per_epoch, found.steps, found.image_size, found.augment) == (5, 200, 8, "none")
    # 1 -> 32 -> 64 -> 128 channels, two numbers a channel for normalising, a linear layer of 10 classes.
    parameters = 9 * (32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + 128 * 10 + 10
    assert found.parameters == (parameters, parameters)
    assert found.memory["gradients"] == 4 * parameters
    assert found.memory["optimizer"] == 8 * parameters
    buffers = 4 * 2 * (32 + 64 + 128) + 8 * 3 + 4 * 2  # running averages, batches seen, mean and std of the images
    assert found.memory["network"] == 4 * parameters + buffers
    assert found.memory["CAR"] == car_bytes(10, 64)
    assert [(epoch, step) for epoch, step, _ in found.milestones] == [
        (0, 0),
        (1, 5),
        (10, 50),
        (20, 100),
        (30, 150),
        (40, 200),
    ]
    assert [rate for *_, rate in found.milestones[::5]] == [pytest.approx(3e-3 / 6), 0.0]


def test_a_plan_is_what_a_run_does(tmp_path):
    config = Config(epochs=3, batch_size=100, optimizer="sgd", lr=0.05, out=str(tmp_path / "run"))
    found, rates = plan(config), []
    summary = train(config, progress=False, callbacks=[Hears(lambda row: rates.append(row["lr"]))])
    assert found.parameters[0] == summary["parameters"]
    assert found.counts.each.tolist() == list(summary["class_counts"].values())
    steps = found.steps_per_epoch
    assert rates == [rate_of_step(epoch * steps - 1, steps, config) for epoch in (1, 2, 3)]


def test_activations_of_a_small_network_by_hand():
    # Convolutions keep what they read, normalisations too and two numbers a channel, rectifiers what they write (the
    # next layer reads the same memory), pooling an int64 index for each output.
    numbers = 64 + 2 * 32 * 64 + 2 * 64 * 64 + 64 * 16 + 2 * 128 * 16 + 128
    expected = 4 * numbers + 8 * 64 * 16
    assert activation_bytes(on_meta("convnet", 8, 1), 8, 1) == pytest.approx(expected, rel=0.02)


def test_attention_keeps_no_matrix():
    small, large = (activation_bytes(on_meta("vit_tiny_patch16_224", 224, 3, patch_size=p), 224, 3) for p in (16, 8))
    assert 3.9 < large / small < 4.1  # four times the tokens; the matrices would be sixteen times as large


def test_car_holds_at_least_its_buffers():
    car = CAR([9] * 300)
    buffers = sum(buffer.nbytes for buffer in car.buffers())
    assert buffers < car_bytes(300, 0) < 2 * buffers


def test_published_counts_stand_in_for_data_that_is_not_here():
    found = plan(recipe("cifar100_lt_resnet32_ldam_drw"))
    assert found.groups == {"many": 35, "medium": 35, "few": 30}
    assert (found.counts.total, found.counts.largest, found.counts.smallest) == (10847, 500, 5)
    assert (found.steps_per_epoch, found.steps) == (85, 17000)
    assert [(epoch, pytest.approx(rate)) for epoch, _, rate in found.milestones] == [
        (0, 0.1 / 426),
        (5, 0.1),
        (160, 1e-3),
        (180, 1e-5),
        (200, 1e-5),
    ]
    assert "cifar100 (as published)" in str(found)
    assert plan(recipe("cifar10_lt", "--imbalance-ratio", "50")).counts.total == 13996
    assert plan(recipe("cifar10_lt", "--holdout", "0.2")).counts.largest == 4000
    assert plan(recipe("cifar10_lt", "--profile", "step")).groups == {"many": 5, "medium": 5, "few": 0}


def test_a_benchmark_without_a_profile_has_its_published_size():
    found = plan(recipe("imagenet_lt_vit_s_car"))
    assert found.counts == ClassCounts(1000, 115846, 1280, 5)
    assert found.groups is None
    assert found.steps_per_epoch == 906  # 115846 / 128, rounded up
    assert found.parameters[0] == 22_050_664  # ViT-S/16 at 224 pixels with 1000 classes
    assert 5e9 < sum(found.memory.values()) < 15e9
    assert "not known without the data" in str(found)


def test_a_contrast_sees_two_more_views_and_trains_two_networks():
    plain, contrast = plan(Config()), plan(Config(contrast="bcl", head="cosine"))
    projection = 128 * 512 + 512 + 2 * 512 + 512 * 128 + 128
    assert contrast.parameters[1] - plain.parameters[1] == 2 * projection - 10  # a cosine head has no bias
    assert contrast.memory["activations"] == pytest.approx(3 * plain.memory["activations"], rel=0.05)


def test_a_second_stage_trains_its_head_alone(tmp_path):
    train(Config(epochs=1, out=str(tmp_path / "first")), progress=False)
    found = plan(second_stage(tmp_path / "first", {"retrain": "crt"}, "here"))
    assert found.parameters[1] == 128 * 10 + 10
    assert found.memory["optimizer"] == 4 * found.parameters[1]
    assert found.memory["activations"] < 1000 * 64


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(data="photos"), "photos"),
        (Config(loss="focl"), "focl"),
        (Config(model="resnt18"), "resnt18"),
        (Config(loss="ldam"), "--head cosine"),
        (Config(sampler="random"), "random"),
        (Config(mix="mixp"), "mixp"),
        (Config(data="cifar100", imbalance_ratio=10, model="convnext"), "convnext"),
        (Config(data="cifar100", data_root="/nowhere"), "/nowhere"),
        (Config(data="imagenet_lt", holdout=0.1), "--holdout leaves of imagenet_lt"),
        (Config(contrast="concutmix"), "add --mix concutmix"),
    ],
)
def test_what_training_would_refuse_is_refused(config, words):
    with pytest.raises(InputError, match=words):
        plan(config)


def test_the_script_writes_nothing(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("run", TRAIN / "run.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "--dry-run", "--epochs", "7"])
    script.main()
    text = capsys.readouterr().out
    assert "35, 7 epochs of 5" in text
    assert "an estimate" in text
    assert list(tmp_path.iterdir()) == []
