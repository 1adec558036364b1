"""A loss of another package, the one that CONTRIBUTING.md shows: a word as any other, which trains."""

import re
from pathlib import Path

import another_package
import numpy as np
import pytest
import torch

from car_ext import InputError, build_loss
from car_ext.cli.flags import parse
from car_ext.methods import registry, table
from car_ext.training.train import train

CONTRIBUTING = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
POLY = re.search(r"### A loss.*?```python\n(.*?)```", CONTRIBUTING, re.S).group(1)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    def install(text):
        another_package.install(tmp_path, monkeypatch, registry.GROUP, "losses_of_another", "__name__", text)
        registry._discover.cache_clear()

    yield install
    registry._METHODS["loss"].pop("poly", None)
    monkeypatch.undo()
    registry._discover.cache_clear()


def test_it_trains_and_is_listed(installed, tmp_path):
    installed(POLY)
    config = parse(["--loss", "poly:epsilon=2", "--epochs", "1", "--out", str(tmp_path / "run")])
    assert train(config, progress=False)["method"] == "poly:epsilon=2"
    assert "`poly:epsilon=1.0`" in table.markdown()
    logits, targets = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([1])
    p = np.exp(1) / (1 + np.exp(1) + np.exp(3))
    assert build_loss("poly:epsilon=2", [5, 3, 2])(logits, targets).item() == pytest.approx(-np.log(p) + 2 * (1 - p))


def test_one_that_does_not_load_is_named(installed):
    installed("raise RuntimeError('no licence')")
    with pytest.raises(InputError, match=r"losses_of_another.*no licence.*mend or uninstall"):
        registry.methods("loss")
