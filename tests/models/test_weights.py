"""Weights of a file find their places by name, and what does not fit is told."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from car_ext.errors import InputError
from car_ext.models.classifier import build_model
from car_ext.models.weights import load_weights

COUNTS = [5] * 4
CONVOLUTIONAL, TRANSFORMER = "mobilenetv3_small_050", "vit_tiny_patch16_224"


@pytest.fixture
def told(monkeypatch):
    sentences = []
    monkeypatch.setattr("car_ext.models.weights.tell", sentences.append)
    return sentences


def network(name: str = CONVOLUTIONAL, seed: int = 1, **options):
    torch.manual_seed(seed)
    return timm.create_model(name, **options)


def backbone(name: str = CONVOLUTIONAL, size: int = 32, channels: int = 3, **options):
    statistics = [0.5] * channels
    return build_model(name, COUNTS, size, channels, statistics, statistics, **options).backbone


def plain(state, folder):
    save_file(state, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def wrapped(state, folder):
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    content = {"model": {f"module.{key}": value for key, value in state.items()}, "optimizer": {}, "epoch": 3}
    torch.save(content | {"other": other}, folder / "weights.pth")
    return folder / "weights.pth"


def averaged(state, folder):
    zero = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({"state_dict": zero, "state_dict_ema": {f"backbone.{k}": v for k, v in state.items()}}, folder / "a.pt")
    return folder / "a.pt"


@pytest.mark.parametrize("write", [plain, wrapped, averaged])
def test_weights_are_found_by_name(tmp_path, told, write):
    state = network().state_dict()
    found = backbone(pretrained=str(write(state, tmp_path))).state_dict()
    assert all(torch.equal(found[key], state[key]) for key in found)
    assert set(state) - set(found) == {"classifier.weight", "classifier.bias"}
    assert told == [f"{len(found)} of {len(found)} tensors of {CONVOLUTIONAL} are from {next(tmp_path.iterdir())}"]


def test_a_checkpoint_of_a_run_is_such_a_file(tmp_path, told):
    model = build_model(CONVOLUTIONAL, COUNTS, 96, 3, [0.5] * 3, [0.5] * 3)
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    found = backbone(pretrained=str(plain(state, tmp_path))).state_dict()
    assert all(torch.equal(value, state[f"model.backbone.{key}"]) for key, value in found.items())


def test_what_does_not_fit_is_listed_on_both_sides(tmp_path, told):
    state = network().state_dict()
    del state["conv_head.bias"]
    state |= {"bn1.weight": torch.ones(3), "teacher.weight": torch.ones(3)}
    model = backbone(pretrained=str(plain(state, tmp_path)))
    assert "2 begin untrained: 'bn1.weight', 'conv_head.bias'; 2 of the file are not taken: 'bn1.weight'" in told[0]
    assert "'teacher.weight'" in told[0]
    assert model.bn1.weight.tolist() == [1.0] * 16


def test_colours_are_summed_for_grey_images(tmp_path, told):
    state = network().state_dict()
    found = backbone(channels=1, pretrained=str(plain(state, tmp_path)))
    torch.testing.assert_close(found.conv_stem.weight, state["conv_stem.weight"].sum(dim=1, keepdim=True))


def test_position_embeddings_are_resized(tmp_path, told):
    state = network(TRANSFORMER, depth=1).state_dict()
    found = timm.create_model(TRANSFORMER, depth=1, num_classes=0, img_size=96)
    load_weights(found, plain(state, tmp_path), TRANSFORMER)
    assert found.pos_embed.shape == (1, 37, 192)
    assert torch.equal(found.pos_embed[:, 0], state["pos_embed"][:, 0])
    assert "begin untrained" not in told[0]


def test_a_file_of_another_network_is_refused(tmp_path):
    path = plain(network("resnet10t").state_dict(), tmp_path)
    with pytest.raises(InputError, match=rf"not of {CONVOLUTIONAL}: it has \d+ of its .*'conv_stem.weight'.*--model"):
        backbone(pretrained=str(path))
    with pytest.raises(InputError, match="not of"):
        backbone(pretrained=str(plain({"x": torch.ones(1)}, tmp_path)))


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "a.safetensors").write_text("no")
    torch.save({"model": network}, tmp_path / "code.pth")
    for name, words in {
        "a.safetensors": "cannot be read",
        "code.pth": "cannot be read .*tensors alone",
        "b.pth": "b.pth is not there",
        "c.onnx": "no file of weights.*.safetensors",
    }.items():
        with pytest.raises(InputError, match=words):
            backbone(pretrained=str(tmp_path / name))


def test_a_folder_of_timm_is_a_model(tmp_path):
    saved = network(TRANSFORMER, depth=2, num_classes=3)
    config = {
        "architecture": TRANSFORMER,
        "num_classes": 3,
        "model_args": {"depth": 2},
        "pretrained_cfg": {**saved.pretrained_cfg, "mean": [0.1, 0.2, 0.3], "num_classes": 3},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(saved.state_dict(), tmp_path / "model.safetensors")
    name = f"local-dir:{tmp_path}"
    model = build_model(name, COUNTS, 224, 3, None, None, pretrained="timm")
    assert torch.equal(model.backbone.blocks[1].mlp.fc1.weight, saved.blocks[1].mlp.fc1.weight)
    assert model.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    # The network is built anew without the folder.
    (tmp_path / "config.json").unlink()
    again = build_model(class_counts=COUNTS, image_size=224, channels=3, mean=[0.5] * 3, std=[0.5] * 3, **model.built)
    again.load_state_dict(model.state_dict())
    with pytest.raises(InputError, match=r"local-dir.*cannot be had"):
        build_model(name, COUNTS, 224, 3, None, None)
