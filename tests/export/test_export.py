"""From a run to files of every format, and everything that may be wrong on the way."""

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
from onnxscript import ir
from PIL import Image

from car_ext import InputError, datasets, report
from car_ext.config.config import Config
from car_ext.datasets.decode import decode
from car_ext.export import FORMATS, Calibration, export_run, onnx_writer, open_file, predict, to_onnx
from car_ext.export.own_data import own_data
from car_ext.report.monitoring.log import Log
from car_ext.run.classifier import load_run
from car_ext.runtimes import torch_file
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.runtimes.onnx_file import OnnxClassifier, check_external_data, working_providers
from car_ext.training.train import train

ONNX = ("fp32", "fp16", "int8")
MONITOR = Path(__file__).parents[2] / "examples" / "monitor.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "car"
    summary = train(Config(epochs=6, regularizer="car", out=str(out)), progress=False)
    return out, summary, export_run(out, list(FORMATS.known()))


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8", "torchscript", "pt2"])
def test_every_format_gives_pytorchs_logits_and_says_what_it_is(name, run, digits):
    out, summary, paths = run
    model = open_file(paths[name])
    classifier, _ = load_run(out)
    images = digits.test.images
    with torch.no_grad():
        expected = classifier(torch.from_numpy(images)).numpy()
    for size in (1, 5, len(images)):
        logits = model(images[:size])
        assert logits.shape == (size, 10)
        assert logits.dtype == np.float32
        largest = {"fp16": 2e-2, "int8": 5e-2}.get(name, 1e-5) * np.abs(expected).max()
        assert np.abs(logits - expected[:size]).max() <= largest
    assert model.class_names == list(map(str, range(10)))
    assert model.class_counts == digits.class_counts.tolist()
    assert (model.image_size, model.stored_size, model.channels) == (8, 8, 1)
    assert model.train_worst_class_accuracy == summary["train_worst_class_accuracy"]
    kinds = {"fp32": "float32", "fp16": "float16", "torchscript": "TorchScript", "pt2": "torch.export"}
    assert model.format == kinds.get(name, name)
    assert not [entry for entry in out.iterdir() if entry.name.startswith(".")]


@pytest.mark.parametrize("name", ONNX)
def test_the_file_stands_alone(name, run):
    _, summary, paths = run
    model = onnx.load(paths[name])
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [opset.version for opset in model.opset_import]) == (8, [18])  # onnxruntime from 1.14 on
    assert {node.domain for node in model.graph.node} == {opset.domain for opset in model.opset_import} == {""}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    (image,), (logits,) = model.graph.input, model.graph.output
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert image.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts["config"]["regularizer"] == "car"
    assert facts["summary"]["overall_accuracy"] == summary["overall_accuracy"]

    weights = [tensor.data_type for tensor in model.graph.initializer if list(tensor.dims[-2:]) == [3, 3]]
    kinds = {"fp32": "FLOAT", "fp16": "FLOAT16", "int8": "INT8"}
    assert weights == [onnx.TensorProto.DataType.Value(kinds[name])] * 3
    if name == "int8":
        scales = [tensor for tensor in model.graph.initializer if tensor.name.endswith("weight_scale")]
        assert sorted(tensor.dims[0] for tensor in scales) == [10, 32, 64, 128]  # one an output channel
        last = next(node for node in model.graph.node if "logits" in node.output)
        assert last.op_type == "Gemm"  # not of 8 bits
        assert (facts["quantization"]["calibration"], facts["quantization"]["images"]) == ("class-balanced", 276)
        assert 0.9 <= facts["quantization"]["same_prediction"] <= 1


@pytest.mark.parametrize(("name", "file"), [("torchscript", "model.pt"), ("pt2", "model.pt2")])
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_pytorchs_files_carry_the_same_description(name, file, run):
    _, _, paths = run
    assert paths[name].name == file
    extra = {"car_ext.json": ""}
    load = torch.jit.load if name == "torchscript" else torch.export.load
    load(paths[name], **{"_extra_files" if name == "torchscript" else "extra_files": extra})
    properties = {entry.key: json.loads(entry.value) for entry in onnx.load(paths["fp32"]).metadata_props}
    assert json.loads(extra["car_ext.json"]) == properties


@pytest.mark.parametrize(("error", "shown"), [(0.01, r"0\.01"), (np.nan, "nan")])
def test_export_refuses_a_model_that_computes_something_else(error, shown, run, monkeypatch, tmp_path):
    out, _, _ = run

    class Skewed(torch_file.TorchClassifier):
        def __call__(self, images):
            return super().__call__(images) + error

    monkeypatch.setattr(torch_file, "TorchClassifier", Skewed)
    with pytest.raises(InputError, match=f"disagree by {shown}"):
        export_run(out, ["torchscript"], tmp_path)
    assert not list(tmp_path.iterdir())


class Strided(torch.nn.Module):
    """Average pooling as torch 2.11 to 2.13 export it, with strides spelled out."""

    def __init__(self, sizes, strides):
        super().__init__()
        self.sizes, self.strides = sizes, strides

    def forward(self, images):
        pooled = images.permute(0, 3, 1, 2).float().mean(dim=(2, 3), keepdim=True)
        return torch.as_strided(pooled, (len(images), *self.sizes), self.strides).flatten(1)


def test_pooling_with_strides_is_no_loop():
    model = onnx_writer._translated(Strided((3, 1, 1), (3, 1, 3, 3)), (4, 4, 3))
    assert "Loop" not in {node.op_type for node in model.graph}
    assert "ReduceMean" in {node.op_type for node in model.graph}


def test_other_strides_are_refused():
    with pytest.raises(Exception, match="as_strided"):
        onnx_writer._translated(Strided((1, 3, 1), (3, 3, 1, 1)), (4, 4, 3))


def test_export_refuses_operators_outside_the_standard(tmp_path):
    node = onnx.helper.make_node("Confusion", ["x"], ["y"], domain="car_ext")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("car_ext", 1)]
    foreign = ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets))
    with pytest.raises(InputError, match="car_ext::Confusion"):
        onnx_writer.save_described(foreign, tmp_path / "foreign.onnx", {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["onnx"]}, "onnx is not known; there are fp32"),
        ({"formats": []}, "one or more, each once"),
        ({"formats": ["pt2", "pt2"]}, "one or more, each once"),
        ({"formats": ["pt2", "fp32"], "out": "nowhere/m.onnx"}, "one file for 2 formats"),
        ({"out": "nowhere/m.onnx"}, "the folder nowhere does not exist"),
        ({"formats": ["pt2"], "out": "m.onnx"}, "a pt2 file ends in .pt2"),
        ({"logit_adjust": 1.0, "tau_norm": 1.0}, "correct the same bias twice"),
        ({"formats": ["int8"], "calibration": Calibration(data="PHOTOS")}, "does not have the classes of the run"),
    ],
)
def test_bad_requests_are_refused(arguments, message, run, photos):
    if "calibration" in arguments:
        arguments = {**arguments, "calibration": Calibration(data=str(photos))}
    with pytest.raises(InputError, match=message):
        export_run(run[0], **arguments)


@pytest.mark.parametrize(("options", "message"), [({"draw": "all"}, "class-balanced or random"), ({"images": 0}, "1")])
def test_a_bad_calibration_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Calibration(**options)


def test_calibration_images_are_drawn_evenly_over_the_classes():
    targets = np.repeat([0, 1, 2], [100, 10, 2])
    chosen = Calibration(images=20).chosen(targets)
    assert np.bincount(targets[chosen]).tolist() == [9, 9, 2]
    assert len(set(chosen)) == 20
    assert (chosen == Calibration(images=20).chosen(targets)).all()
    assert (chosen != Calibration(images=20, seed=1).chosen(targets)).any()
    everything = Calibration(images=1000).chosen(targets)
    assert sorted(everything) == list(range(112))
    at_random = Calibration("random", images=56).chosen(targets)
    assert np.bincount(targets[at_random], minlength=3)[0] > 40


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_correction_for_class_frequencies_is_built_in(run, digits, tmp_path):
    out, _, _ = run
    classifier, state = load_run(out)
    images, head = digits.test.images[:50], classifier.head
    with torch.no_grad():
        features = classifier.features(torch.from_numpy(images)).double().numpy()
    weight, bias = head.weight.detach().double().numpy(), head.bias.detach().double().numpy()
    frequency = np.array(state["class_counts"]) / np.sum(state["class_counts"])
    adjusted = features @ weight.T + bias - 0.7 * np.log(frequency)
    normalized = features @ (weight / np.linalg.norm(weight, axis=1, keepdims=True) ** 0.4).T
    for option, expected, correction in [
        ({"logit_adjust": 0.7}, adjusted, "logit_adjusted:tau=0.7"),
        ({"tau_norm": 0.4}, normalized, "tau_norm:tau=0.4"),
    ]:
        path = export_run(out, ["torchscript"], tmp_path, **option)["torchscript"]
        model = open_file(path)
        np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-4)
        extra = {"car_ext.json": ""}
        torch.jit.load(path, _extra_files=extra)
        facts = json.loads(extra["car_ext.json"])
        # Not the scores of the head as it was trained.
        assert (facts["correction"], facts["summary"], model.train_worst_class_accuracy) == (correction, {}, None)


def test_scores_of_two_views_are_not_those_of_the_file(tmp_path):
    train(Config(epochs=1, test_flip=True, out=str(tmp_path / "run")), progress=False)
    path = export_run(tmp_path / "run", ["torchscript"])["torchscript"]
    assert open_file(path).train_worst_class_accuracy is None


def test_calibration_sees_the_images_of_training_alone(run):
    whole = own_data(FinishedRun(run[0], "cpu"), None, None).train
    assert len(whole) == 276
    part = FinishedRun(run[0], "cpu")
    part.config = {**part.config, "holdout": 0.2}
    assert len(own_data(part, None, None).train) < 0.85 * len(whole)


def test_calibration_needs_no_test_images_and_says_where_to_say_that_they_moved(photos, tmp_path):
    data, run_dir = tmp_path / "then", tmp_path / "run"
    shutil.copytree(photos, data)
    train(Config(data=str(data), epochs=1, model="cifar_resnet8", out=str(run_dir)), progress=False)
    shutil.rmtree(data / "test")
    moved = data.rename(tmp_path / "now")
    run = FinishedRun(run_dir, "cpu")
    with pytest.raises(InputError, match=r"the run's data cannot be read: .*then.*if they have moved.*--data"):
        own_data(run, None, None)
    assert len(own_data(run, str(moved), None).train) == 12


def test_weights_too_large_for_one_file_lie_beside_it(run, monkeypatch, digits, tmp_path):
    out, _, paths = run
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(onnx_writer, "LARGEST_WEIGHTS", 10_000)
        large = export_run(out, ["fp32", "int8"], first)
    assert sorted(entry.name for entry in first.iterdir()) == [
        "model.int8.onnx",
        "model.int8.onnx.data",
        "model.onnx",
        "model.onnx.data",
        "predict.py",
    ]
    for name in large:
        model = onnx.load(large[name], load_external_data=False)
        places = {entry.value for t in model.graph.initializer for entry in t.external_data if entry.key == "location"}
        assert places == {large[name].name + ".data"}
    first.rename(second)
    images = digits.test.images
    for name in large:
        there = OnnxClassifier(second / large[name].name)(images)
        np.testing.assert_allclose(there, OnnxClassifier(paths[name])(images), atol=1e-5)
    monkeypatch.setattr(onnx_writer, "save_float32", lambda run, draft: shutil.copy(paths["fp32"], draft))
    to_onnx(out, second)  # a smaller one takes its place
    assert not (second / "model.onnx.data").exists()


@pytest.mark.parametrize("kind", ["initializer", "attribute of a subgraph"])
@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "a/../../secret", "link"])
def test_external_data_outside_the_folder_is_refused(place, kind, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to("../secret")
    (folder / "inside").write_bytes(bytes(16))

    def model(location):
        tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4], bytes(16), raw=True)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])
        if kind == "initializer":
            node = onnx.helper.make_node("Identity", ["w"], ["y"])
            graph = onnx.helper.make_graph([node], "g", [], [y], [tensor])
        else:
            node = onnx.helper.make_node("Constant", [], ["y"], value=tensor)
            branch = onnx.helper.make_graph([node], "branch", [], [y])
            choice = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
            c = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
            graph = onnx.helper.make_graph([choice], "g", [c], [y])
        path = folder / "model.onnx"
        path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
        return path

    check_external_data(model("inside"))
    with pytest.raises(InputError, match="outside its folder"):
        OnnxClassifier(model(place))


def test_an_unfinished_run_exports_its_last_checkpoint(run, tmp_path):
    out, _, _ = run
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (checkpoint,) = out.glob("checkpoint-*")
    (unfinished / checkpoint.name).symlink_to(checkpoint)
    path = export_run(unfinished, ["torchscript"])["torchscript"]
    assert open_file(path).train_worst_class_accuracy is None


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of 16 x 16 noise, darker and brighter."""
    random, root = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "photos"
    for split in ("train", "test"):
        for number, name in enumerate("abc"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(4):
                pixels = random.integers(0, 60, (16, 16, 3), dtype=np.uint8) + np.uint8(90 * number)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])  # timm's own small ones
def test_timm_models_export(name, photos, tmp_path):
    train(Config(data=str(photos), model=name, epochs=1, lr=1e-3, out=str(tmp_path / "run")), progress=False)
    paths = export_run(tmp_path / "run", ["fp32", "int8", "torchscript"])
    assert paths["fp32"].stat().st_size > 2 * paths["int8"].stat().st_size


def pictures(folder):
    """Of every kind that needs care."""
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (21, 34, 4), dtype=np.uint8)
    sideways = Image.Exif()
    sideways[0x0112] = 6  # turned by a quarter
    Image.fromarray(colours[..., :3]).save(folder / "plain.png")
    Image.fromarray(colours[:16, :16, :3]).save(folder / "square.png")
    Image.fromarray(colours[..., :3]).save(folder / "sideways.jpg", exif=sideways)
    Image.fromarray(colours).save(folder / "transparent.png")
    Image.fromarray(colours[..., 0]).save(folder / "grey.png")
    Image.fromarray(colours[..., :2].copy().view(np.uint16)[..., 0]).save(folder / "deep.png")
    Image.fromarray(colours[..., :3]).quantize(8).save(folder / "palette.png", transparency=3)
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("stored", "kept"), [(16, 16), (16, 13), (20, 16)])
def test_predict_sees_the_pixels_that_the_data_sets_give(stored, kept, tmp_path):
    facts = {"channels": 3, "stored_size": stored, "image_size": kept}
    for path in pictures(tmp_path):
        edge = (stored - kept) // 2
        expected = decode(path.read_bytes(), stored, path.name)[edge : edge + kept, edge : edge + kept]
        np.testing.assert_array_equal(predict.read(path, facts), expected, err_msg=path.name)


REFUSING = """
import runpy, sys
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("car_ext", "torch", "torchvision", "timm", "onnx"):
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def without_car_ext(*arguments):
    command = [sys.executable, "-I", "-c", REFUSING, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def folder_of_digits(digits, tmp_path):
    """Three pictures of each of the classes 0 and 9."""
    for name in ("0", "9"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for index in np.flatnonzero(digits.test.targets == int(name))[:3]:
            Image.fromarray(digits.test.images[index, ..., 0]).save(tmp_path / "in" / name / f"{index}.png")
    return tmp_path / "in"


def test_predict_needs_neither_car_ext_nor_torch(run, digits, folder_of_digits):
    _, _, paths = run
    script = paths["int8"].with_name("predict.py")
    files = sorted(folder_of_digits.rglob("*.png"))
    lines = without_car_ext(script, paths["int8"], *files).splitlines()
    labels = OnnxClassifier(paths["int8"])(digits.test.images).argmax(axis=1)
    for path, line in zip(files, lines, strict=True):
        name, best, *rest = line.split("\t")
        assert (name, best.split()[0], len(rest)) == (str(path), str(labels[int(path.stem)]), 2)


def test_monitoring_logs_a_line_a_run(run, digits, folder_of_digits, tmp_path):
    _, _, paths = run
    log = tmp_path / "log.jsonl"
    without_car_ext(MONITOR, paths["fp32"], folder_of_digits, "--log", log)
    without_car_ext(MONITOR, paths["fp32"], folder_of_digits / "9", "--log", log)
    labelled, bare = map(json.loads, log.read_text().splitlines())
    chosen = [int(path.stem) for path in sorted(folder_of_digits.rglob("*.png"))]
    logits = OnnxClassifier(paths["fp32"])(digits.test.images[chosen])
    predicted = logits.argmax(axis=1)
    assert labelled["images"] == 6
    assert labelled["predicted"] == {str(k): int((predicted == k).sum()) for k in range(10)}
    confidence = torch.from_numpy(logits).double().softmax(dim=1).amax(dim=1).mean().item()
    assert labelled["mean_confidence"] == pytest.approx(confidence, rel=1e-5)
    accuracies = {name: np.mean(predicted[digits.test.targets[chosen] == int(name)] == int(name)) for name in "09"}
    assert labelled["worst_class_accuracy"] == pytest.approx(min(accuracies.values()))
    assert labelled["worst_class"] == min(accuracies, key=lambda name: (accuracies[name], name))
    assert labelled["per_class_accuracy"] == pytest.approx(accuracies)
    assert labelled["overall_accuracy"] == pytest.approx(np.mean(predicted == digits.test.targets[chosen]))
    assert (bare["images"], "worst_class" in bare) == (3, False)

    log.write_text(log.read_text()[:-9])  # interrupted
    without_car_ext(MONITOR, paths["fp32"], folder_of_digits, "--log", log)
    whole, _, again = log.read_text().splitlines()
    assert json.loads(again) | {"time": ""} == json.loads(whole) | {"time": ""}
    log.write_text(f"{whole}\n{again}\n")
    report.write_monitoring(log, tmp_path / "page.html")
    read = Log.read(log)
    assert read.class_counts == dict(zip(map(str, range(10)), digits.class_counts.tolist(), strict=True))
    assert read.true.sum(axis=0).tolist() == [6, 0, 0, 0, 0, 0, 0, 0, 0, 6]
    assert read.correct[0, [0, 9]].tolist() == [round(3 * accuracies["0"]), round(3 * accuracies["9"])]


def test_a_predict_that_is_not_ours_is_left_alone(run, tmp_path):
    script = tmp_path / "predict.py"
    script.write_text("print('mine')\n")
    with pytest.raises(InputError, match="not the one that an export writes"):
        to_onnx(run[0], tmp_path)
    assert script.read_text() == "print('mine')\n"
    export_run(run[0], ["torchscript"], tmp_path)  # needs no such script


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_files_that_are_no_models_are_refused(run, tmp_path):
    for name, message in [
        ("m.onnx", "not a model onnxruntime can load"),
        ("m.pt", "not a TorchScript model"),
        ("m.pt2", "not a torch.export model"),
        ("m.py", "give one that ends in .onnx, .pt, .pt2"),
    ]:
        (tmp_path / name).write_text("nothing")
        with pytest.raises(InputError, match=message):
            open_file(tmp_path / name)
    with pytest.raises(InputError, match="no model file"):
        open_file(tmp_path / "none.onnx")
    nameless = onnx.load(run[2]["fp32"])
    del nameless.metadata_props[:]
    onnx.save(nameless, tmp_path / "nameless.onnx")
    with pytest.raises(InputError, match="lacks the metadata"):
        open_file(tmp_path / "nameless.onnx")
    torch.jit.trace(torch.nn.ReLU(), torch.ones(1)).save(str(tmp_path / "other.pt"))
    with pytest.raises(InputError, match="lacks the metadata"):
        open_file(tmp_path / "other.pt")


def test_working_providers_are_usable():
    assert working_providers()[-1] == "CPUExecutionProvider"
    assert set(working_providers()) <= set(onnxruntime.get_available_providers())
