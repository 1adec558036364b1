"""A format is one object, of this package or of another one."""

import subprocess
import sys

import another_package
import numpy as np
import pytest

from car_ext import InputError
from car_ext.config.config import Config
from car_ext.evaluation.evaluate import evaluate
from car_ext.export import FORMATS, export, export_run, format, open_file
from car_ext.plugins import Plugins
from car_ext.training.train import train

STATE = '''"""The weights as safetensors, and the description in their header, as another package would write them."""

import json

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from car_ext.export import Format
from car_ext.models.classifier import build_model
from car_ext.runtimes.described import Described


class State(Described):
    def __init__(self, path, device):
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
        super().__init__(facts, "torch cpu", "safetensors")
        blank, config = [1.0] * self.channels, facts["config"]
        self.model = build_model(config["model"], self.class_counts, self.image_size, self.channels, blank, blank)
        self.model.load_state_dict(load_file(path))
        self.model.eval()

    @torch.inference_mode()
    def __call__(self, images):
        return self.model(torch.from_numpy(np.ascontiguousarray(images))).numpy()


def save(run, path, calibration):
    save_file(run.classifier.state_dict(), path, {"facts": json.dumps(run.facts)})


FORMAT = Format("state", "model.safetensors", save, State, tolerance=1e-6)
'''


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The name of a format that a package brings which is installed beside this one."""
    another_package.install(tmp_path, monkeypatch, FORMATS.group, "state_of_another", "FORMAT", STATE)
    anew = Plugins(FORMATS.package, FORMATS.attribute, FORMATS.group)
    for module in (export, format):
        monkeypatch.setattr(module, "FORMATS", anew)
    return "state"


def test_a_format_of_another_package_is_exported_opened_and_evaluated(state, tmp_path):
    summary = train(Config(epochs=3, out=str(tmp_path / "run")), progress=False)
    path = export_run(tmp_path / "run", [state])[state]
    assert path == tmp_path / "run" / "model.safetensors"
    evaluation = evaluate(path, "digits", progress=False).summary
    assert evaluation["format"] == "safetensors"
    for key in ("overall_accuracy", "worst_class_accuracy", "per_class_accuracy"):
        assert evaluation[key] == summary[key]


def test_a_format_of_another_package_is_checked_as_any(state, tmp_path, monkeypatch):
    train(Config(epochs=1, out=str(tmp_path / "run")), progress=False)
    opened = format.FORMATS.known()[state].open
    monkeypatch.setattr(opened, "__call__", lambda self, images: np.zeros((len(images), 10), np.float32))
    with pytest.raises(InputError, match=r"torch cpu and PyTorch disagree by"):
        export_run(tmp_path / "run", [state])
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_the_formats_and_their_endings(tmp_path):
    assert [(one.name, one.file) for one in FORMATS.known().values()] == [
        ("fp32", "model.onnx"),
        ("fp16", "model.fp16.onnx"),
        ("int8", "model.int8.onnx"),
        ("torchscript", "model.pt"),
        ("pt2", "model.pt2"),
    ]
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"is no model file: give one that ends in .onnx, .pt, .pt2\."):
        open_file(tmp_path / "model.safetensors")


def test_what_is_slow_to_import_waits_until_it_is_needed():
    code = "import sys, car_ext.export as e, car_ext.runtimes; e.FORMATS.known(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "car_ext.export.formats.onnx_int8" in loaded
    assert not {"onnx", "onnxruntime", "onnxscript", "timm", "sklearn", "pyarrow"} & set(loaded)
