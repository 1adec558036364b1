"""A checkpoint comes back to the bit, or not at all."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from car_ext.errors import InputError
from car_ext.run import checkpoint


def test_tensors_and_state_come_back_exactly(tmp_path):
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {
        "scalar": torch.tensor(7.0),
        "int": torch.tensor([2**60, -1]),
        "half": torch.tensor([1 / 3], dtype=torch.bfloat16),
        "transposed": base.T,
        "view": base[1:],
        "shared": base,
        "alone": torch.arange(12.0).reshape(4, 3)[1:3],
        "expanded": torch.ones(1).expand(3),
        "empty": torch.empty(0, 2),
        "parameter": nn.Parameter(torch.tensor([float("nan"), -0.0])),
    }
    state = {"rate": 0.1 + 0.2, "names": ["ä", "b"], "nothing": None}
    checkpoint.save(tmp_path, 3, tensors, state)
    epoch, loaded, loaded_state = checkpoint.load_latest(tmp_path)
    assert (epoch, loaded_state) == (3, state)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        torch.testing.assert_close(loaded[name], tensor.detach(), rtol=0, atol=0, equal_nan=True)


def test_only_the_newest_is_kept(tmp_path):
    for epoch in (9, 10, 100):
        checkpoint.save(tmp_path, epoch, {"x": torch.tensor(epoch)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000100"]
    assert checkpoint.load_latest(tmp_path)[1] == {"x": torch.tensor(100)}


def test_no_checkpoint(tmp_path):
    assert checkpoint.load_latest(tmp_path) is None
    assert checkpoint.load_latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("moment", ["save_file", "_sha256", "rename", "rmtree"])
def test_an_interrupted_save_leaves_a_whole_checkpoint(tmp_path, monkeypatch, moment):
    checkpoint.save(tmp_path, 1, {"x": torch.tensor(1)}, {})

    def killed(*args, **kwargs):
        if moment != "rmtree" or not kwargs:  # the call that clears an old draft away passes ignore_errors
            raise KeyboardInterrupt

    target = {"rename": Path, "rmtree": shutil}.get(moment, checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr(target, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, 2, {"x": torch.tensor(2)}, {})
    epoch, tensors, _ = checkpoint.load_latest(tmp_path)
    assert epoch == tensors["x"].item() == (2 if moment == "rmtree" else 1)
    checkpoint.save(tmp_path, 3, {"x": torch.tensor(3)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000003"]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("tensors.safetensors", Path.unlink),
        ("tensors.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("tensors.safetensors", _flip),
        ("state.json", Path.unlink),
        ("state.json", lambda path: path.write_text(path.read_text()[:-3])),
        ("state.json", lambda path: path.write_text("{}")),
    ],
)
def test_damage_is_named(tmp_path, file, damage):
    folder = checkpoint.save(tmp_path, 5, {"x": torch.ones(4)}, {})
    damage(folder / file)
    with pytest.raises(InputError, match="checkpoint-000005 is damaged"):
        checkpoint.load_latest(tmp_path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.SGD, {}),
    ],
)
def test_an_optimizer_goes_on_to_the_bit(tmp_path, kind, options):
    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        return model, kind(model.parameters(), lr=0.1, **options)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    model, optimizer = make()
    for _ in range(3):
        step(model, optimizer)
    tensors, groups = checkpoint.pack_optimizer(optimizer)
    tensors |= checkpoint.pack("model", model.state_dict())
    checkpoint.save(tmp_path, 1, tensors, {"groups": groups})
    again, fresh = make()
    _, tensors, state = checkpoint.load_latest(tmp_path)
    again.load_state_dict(checkpoint.unpack("model", tensors))
    checkpoint.unpack_optimizer(fresh, tensors, state["groups"])
    step(model, optimizer)
    step(again, fresh)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert json.dumps(fresh.state_dict()["param_groups"]) == json.dumps(optimizer.state_dict()["param_groups"])


def test_a_checkpoint_that_is_replaced_while_it_is_read(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"x": torch.tensor(1)}, {})
    load_file = checkpoint.load_file

    def replaced(path):
        if "checkpoint-000001" in str(path):  # a training goes on meanwhile
            checkpoint.save(tmp_path, 2, {"x": torch.tensor(2)}, {})
        return load_file(path)

    monkeypatch.setattr(checkpoint, "load_file", replaced)
    epoch, tensors, _ = checkpoint.load_latest(tmp_path)
    assert (epoch, tensors["x"]) == (2, 2)
