"""A new network: what it normalises by, and the weights it begins from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from car_ext.config.config import Config
from car_ext.datasets import load
from car_ext.datasets.statistics import CONSTANTS, statistics
from car_ext.errors import InputError
from car_ext.training.network import new_network


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def colours(data):
    return replace(data, train=replace(data.train, images=np.repeat(data.train.images, 3, axis=-1)), channels=3)


def test_statistics_are_those_of_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
    mean, std = statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)))


def test_a_network_normalises_by_its_data_unless_told(digits):
    assert new_network(Config(), digits, 8).mean.tolist() == pytest.approx(statistics(digits.train.images)[0])
    with pytest.raises(InputError, match="--normalize cifar is for images of three colours, but digits is grey"):
        new_network(Config(normalize="cifar"), digits, 8)


@pytest.mark.parametrize("name", CONSTANTS)
def test_published_constants(name, digits):
    model = new_network(Config(normalize=name), colours(digits), 8)
    assert model.mean.tolist() == pytest.approx(CONSTANTS[name][0])
    assert model.std.tolist() == pytest.approx(CONSTANTS[name][1])


def test_torch_s_initial_weights(digits):
    """timm starts a residual branch at gain 0, torch at 1, with narrower convolutions."""
    own, torchs = (
        new_network(Config(model="resnet18", init=init), colours(digits), 32).backbone for init in ("model", "torch")
    )
    assert (own.layer1[0].bn2.weight == 0).all()
    assert (torchs.layer1[0].bn2.weight == 1).all()
    bound = (1 / (64 * 9)) ** 0.5
    assert torchs.layer1[0].conv1.weight.abs().max() <= bound < own.layer1[0].conv1.weight.abs().max()
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in torchs.parameters())
    assert all(torch.isfinite(p).all() for p in torchs.parameters())
