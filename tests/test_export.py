"""From a run to a scored ONNX file, and everything that may be wrong on the way."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from car_ext import InputError, datasets
from car_ext.config import Config
from car_ext.engine import load_run, train
from car_ext.evaluate import evaluate
from car_ext.export import onnx as onnx_export
from car_ext.export import to_onnx
from car_ext.runtime import OnnxClassifier, working_providers


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "car"
    summary = train(Config(epochs=6, regularizer="car", out=str(out)), progress=False)
    return out, summary, to_onnx(out)


def test_onnxruntime_gives_the_metrics_of_training(run):
    _, summary, path = run
    scores, confusion = evaluate(path, "digits", progress=False)
    shared = set(summary) & set(scores) - {"model", "data", "images_per_second", "scores", "worst_class_ratio_same"}
    assert {"overall_accuracy", "worst_class", "worst_class_ratio", "many", "few", "per_class_accuracy"} <= shared
    for key in shared:
        assert scores[key] == summary[key], key
    assert confusion.sum() == 700
    for key, value in summary["scores"].items():  # of logits, which the runtimes round differently
        assert scores["scores"][key] == pytest.approx(value, rel=1e-4), key


def test_the_file_stands_alone(run):
    out, _, path = run
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    (image,) = model.graph.input
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert image.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not list(out.glob("*.tmp"))

    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts["class_names"] == [str(digit) for digit in range(10)]
    assert facts["class_counts"][0] == 100
    assert facts["class_counts"][-1] == 2
    assert facts["config"]["regularizer"] == "car"

    # onnxruntime alone, no car_ext: raw images in, any batch size
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = datasets.load("digits").test.images
    classifier, _ = load_run(out)
    for size in (1, 5):
        (logits,) = session.run(None, {"images": images[:size]})
        with torch.no_grad():
            expected = classifier(torch.from_numpy(images[:size])).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_export_refuses_a_model_that_computes_something_else(run, monkeypatch, tmp_path):
    out, _, _ = run

    class Skewed(OnnxClassifier):
        def __call__(self, images):
            return super().__call__(images) + 0.01

    monkeypatch.setattr(onnx_export, "OnnxClassifier", Skewed)
    with pytest.raises(InputError, match=r"disagree by 0\.01"):
        to_onnx(out, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_export_refuses_operators_outside_the_standard(tmp_path):
    node = onnx.helper.make_node("Confusion", ["x"], ["y"], domain="car_ext")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("car_ext", 1)]
    path = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), path)
    with pytest.raises(InputError, match="car_ext::Confusion"):
        onnx_export._check_standard(path)


def test_an_unfinished_run_exports_its_last_checkpoint(run, tmp_path):
    out, _, _ = run
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (checkpoint,) = out.glob("checkpoint-*")
    (unfinished / checkpoint.name).symlink_to(checkpoint)
    scores, _ = evaluate(to_onnx(unfinished), "digits", progress=False)
    assert scores["worst_class_ratio"] is None


@pytest.fixture
def photos(tmp_path):
    """Three classes of 16 x 16 noise, darker and brighter."""
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for number, name in enumerate("abc"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(4):
                pixels = random.integers(0, 60, (16, 16, 3), dtype=np.uint8) + np.uint8(90 * number)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_timm_models_export(name, photos, tmp_path):
    train(Config(data=str(photos), model=name, epochs=1, lr=1e-3, out=str(tmp_path / "run")), progress=False)
    assert to_onnx(tmp_path / "run").stat().st_size > 1_000_000


def test_a_folder_with_a_test_split_alone_is_enough(photos, tmp_path):
    out = tmp_path / "run"
    summary = train(Config(data=str(photos), epochs=3, batch_size=4, out=str(out)), progress=False)
    path = to_onnx(out)
    shutil.rmtree(photos / "train")
    scores, _ = evaluate(path, str(photos), progress=False)
    assert scores["per_class_accuracy"] == summary["per_class_accuracy"]
    shutil.rmtree(photos / "test" / "a")  # labels now differ from the model's, names do not
    scores, _ = evaluate(path, str(photos), progress=False)
    assert scores["per_class_accuracy"] == {**summary["per_class_accuracy"], "a": None}
    margins = scores["scores"]["loma"]
    assert (margins.pop("a"), list(margins), None in margins.values()) == (None, ["b", "c"], False)
    (photos / "test" / "c").rename(photos / "test" / "tulip")
    with pytest.raises(InputError, match="'tulip', which the model was not trained on"):
        evaluate(path, str(photos), progress=False)


def test_the_number_of_channels_must_fit(run, tmp_path):
    _, _, path = run
    (tmp_path / "test" / "7").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "test" / "7" / "0.png")
    with pytest.raises(InputError, match="3 channel"):
        evaluate(path, str(tmp_path), progress=False)


def test_working_providers_are_usable():
    assert working_providers()[-1] == "CPUExecutionProvider"


SCRIPTS = Path(__file__).parents[1] / "export"


def script(name, *arguments):
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_scripts_end_to_end(run, tmp_path):
    out, summary, _ = run
    exported = script("to_onnx.py", out, "--out", tmp_path / "m.onnx")
    assert exported.returncode == 0, exported.stderr
    scored = script("evaluate.py", tmp_path / "m.onnx", "--data", "digits", "--json", tmp_path / "s.json")
    assert scored.returncode == 0, scored.stderr
    assert "worst class" in scored.stdout
    assert "confused with" in scored.stdout
    written = json.loads((tmp_path / "s.json").read_text())
    assert written["per_class_accuracy"] == summary["per_class_accuracy"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("to_onnx.py", ["nowhere"], "nowhere"),
        ("evaluate.py", ["nothing.onnx", "--data", "digits"], "no model file 'nothing.onnx'"),
        ("evaluate.py", [__file__, "--data", "digits"], "not a model onnxruntime can load"),
        ("evaluate.py", ["MODEL", "--data", "digit"], "did you mean 'digits'"),
        ("evaluate.py", ["MODEL", "--data", "digits", "--json", "no/such/s.json"], "its folder does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, name, arguments, message):
    _, _, path = run
    result = script(name, *[str(path) if argument == "MODEL" else argument for argument in arguments])
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
