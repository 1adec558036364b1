"""A run's classifier, as this version and older ones have written it."""

import pytest
import torch

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.models.classifier import build_model
from car_ext.run import checkpoint
from car_ext.run.classifier import load_run
from car_ext.training.job import Job
from car_ext.training.train import train

STATISTICS = [0.5] * 3


def described(config: Config, **further) -> dict:
    return {
        "config": config.to_dict(),
        "heads": ["linear"],
        "class_names": ["a", "b", "c"],
        "class_counts": [5] * 3,
        "image_size": 32,
        "channels": 3,
        "mean": STATISTICS,
        "std": STATISTICS,
        **further,
    }


def test_a_run_of_an_older_version_is_the_network_of_then(tmp_path):
    written = build_model("resnet10t", [5] * 3, 32, 3, STATISTICS, STATISTICS, stem="wide")
    state = described(Config(model="resnet10t", pretrained="timm"))
    del state["config"]["stem"], state["config"]["tune"]
    state["config"]["pretrained"] = True
    checkpoint.save(tmp_path, 3, checkpoint.pack("model", written.state_dict()), state)
    found, _ = load_run(tmp_path)
    assert found.backbone.conv1[0].stride == (1, 1)
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in written.state_dict().items())


def test_pretrained_runs_keep_their_stem(tmp_path):
    written = build_model("resnet10t", [5] * 3, 32, 3, STATISTICS, STATISTICS, stem="keep")
    state = described(Config(model="resnet10t", pretrained="timm"), network=written.built)
    checkpoint.save(tmp_path, 3, checkpoint.pack("model", written.state_dict()), state)
    assert load_run(tmp_path)[0].backbone.conv1[0].stride == (2, 2)


def test_the_kept_epoch_and_the_average_go_first(tmp_path):
    models = [build_model("convnet", [5] * 3, 32, 3, STATISTICS, STATISTICS) for _ in range(3)]
    latest, average, kept = (model.state_dict() for model in models)
    state = described(Config())
    both = checkpoint.pack("model", latest) | checkpoint.pack("average", average)
    checkpoint.save(tmp_path, 4, both, state)
    assert torch.equal(load_run(tmp_path)[0].head.weight, average["head.weight"])
    checkpoint.write(tmp_path, checkpoint.KEPT, 2, checkpoint.pack("model", kept), state)
    assert torch.equal(load_run(tmp_path)[0].head.weight, kept["head.weight"])


def test_an_unfinished_pretrained_run_of_an_older_version_is_not_resumed(tmp_path):
    config = Config(epochs=1, out=str(tmp_path / "run"))
    train(config, progress=False)
    epoch, tensors, state = checkpoint.load_latest(config.run_dir)
    del state["network"]
    job = Job(config)
    job.restore(epoch, tensors, state)
    job.config = Config(model="resnet10t", pretrained="timm")
    with pytest.raises(InputError, match="an older version, which chose their size and stem otherwise"):
        job.restore(epoch, tensors, state)
