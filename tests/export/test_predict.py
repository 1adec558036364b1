"""What a server gets of an export: predict.py, examples/monitor.py, and pictures as they come."""

import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deployed import colour_model, exported_predict, noise
from image_files import png
from PIL import Image

from car_ext import InputError
from car_ext.datasets import picture
from car_ext.export.export import standalone_predict
from car_ext.report.monitoring.log import Log

MONITOR = Path(__file__).parents[2] / "examples" / "monitor.py"
NAMES = ("red", "green", "blue")


@pytest.fixture
def model(tmp_path):
    return colour_model(tmp_path / "model.onnx")


@pytest.fixture
def predict(tmp_path):
    return exported_predict(tmp_path)


@pytest.fixture
def monitor(predict, monkeypatch):
    """Calls the script in this process; the exported predict.py lies beside the model."""
    spec = importlib.util.spec_from_file_location("monitor", MONITOR)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def call(*arguments):
        sys.modules.pop("predict", None)
        monkeypatch.setattr(sys, "argv", ["monitor.py", *map(str, arguments)])
        script.main()

    yield call
    sys.modules.pop("predict", None)


@pytest.fixture
def incoming(tmp_path):
    """Two pictures of each class, rather of its colour, in folders of the classes."""
    root = tmp_path / "incoming"
    for channel, name in enumerate(NAMES):
        for index in range(2):
            save(root / name / f"{index}.png", channel)
    return root


def save(path, channel):
    pixels = noise(0, 100)
    pixels[..., channel] += 100
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def spoil(folder):
    """What macOS, an interrupted copy and a camera leave."""
    (folder / "red" / "._0.png").write_bytes(b"\0\5\x16\7 resource fork")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "0.png").write_bytes(b"x")
    whole = (folder / "red" / "1.png").read_bytes()
    (folder / "red" / "1.png").write_bytes(whole[: len(whole) // 2])
    Image.new("F", (6, 6), 0.5).save(folder / "blue" / "1.tiff")
    Image.fromarray(noise()).save(folder / "blue" / "1.jpg", format="GIF")


def refused(call, *arguments):
    with pytest.raises(SystemExit) as end:
        call(*arguments)
    assert end.value.code == 2


def test_an_export_holds_the_decoder_of_training_verbatim():
    text = standalone_predict()
    assert Path(picture.__file__).read_text(encoding="utf-8") in text
    assert "import car_ext" not in text
    assert "from car_ext" not in text
    assert len(text.splitlines()) < 300  # somebody reads it before it goes to a server


def test_the_stated_pillow_is_that_of_the_package(predict):
    stated = re.search(r'"pillow>=([0-9.]+)"', (Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert f"pillow ({stated[1]} or newer)" in predict.__doc__


def test_predict_sees_the_folder_without_what_is_no_picture(predict, model, incoming, capsys):
    spoil(incoming)
    assert predict.main([str(model), str(incoming)]) == 0
    out, err = capsys.readouterr()
    seen = {row.split("\t")[0]: row.split("\t")[1].split()[0] for row in out.splitlines()}
    files = ("red/0", "green/0", "green/1", "blue/0", "blue/1")
    assert seen == {str(incoming / f"{file}.png"): file.partition("/")[0] for file in files}
    *refusals, count = err.splitlines()
    assert [line.partition("'")[2].partition("'")[0] for line in refusals] == [
        str(incoming / file) for file in ("blue/1.jpg", "blue/1.tiff", "red/1.png")
    ]
    assert "no known image format" in refusals[0]
    assert "floating-point pixels" in refusals[1]
    assert count == "3 of 8 pictures could not be read"


def test_predict_says_what_is_wrong_in_one_sentence(predict, model, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"x")
    (tmp_path / "broken.onnx").write_bytes(b"x")
    Image.fromarray(noise()).save(tmp_path / "good.png")
    for arguments, words in [
        ([], "usage:"),
        ([model], "usage:"),
        ([model, tmp_path / "none.png"], "no file or folder"),
        ([model, tmp_path / "empty"], "no picture"),
        ([model, tmp_path / "broken.png"], "cannot be decoded"),
        ([tmp_path / "none.onnx", tmp_path / "good.png"], "no model file"),
        ([tmp_path / "broken.onnx", tmp_path / "good.png"], "no model that onnxruntime can load"),
    ]:
        assert predict.main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert not out
        assert words in err.splitlines()[0]
        assert len(err.splitlines()[0]) < 400 + len(str(tmp_path))
        assert "Traceback" not in err
    assert predict.main(["--help"]) == 0
    assert "usage:" in capsys.readouterr().out


def test_a_model_without_its_description_is_refused(predict, tmp_path, capsys):
    import onnx

    path = colour_model(tmp_path / "bare.onnx")
    bare = onnx.load(path)
    del bare.metadata_props[:]
    onnx.save(bare, path)
    assert predict.main([str(path), str(tmp_path)]) == 2
    assert "does not say channels, class_counts, class_names" in capsys.readouterr().err


def test_predict_runs_as_a_script(predict, model, incoming):
    command = [sys.executable, "-I", predict.__file__, model, incoming / "blue" / "0.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\t")[1].startswith("blue ")
    assert not done.stderr


def test_nearly_one_value_is_told_of_once(predict, model, tmp_path, capsys):
    for index in range(3):
        Image.fromarray(noise(0, 4096, (6, 6), np.uint16)).save(tmp_path / f"{index}.png")
    save(tmp_path / "good.png", 1)
    assert predict.main([str(model), *(str(path) for path in sorted(tmp_path.glob("*.png")))]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: 3 of 4 images hold nearly one value")
    assert "0.png" in warning
    assert "of 255" in warning


def test_monitoring_scores_what_can_be_read(monitor, model, incoming, tmp_path, capsys):
    spoil(incoming)
    monitor(model, incoming, "--log", tmp_path / "log.jsonl", "--rows", tmp_path / "rows.csv")
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert (line["images"], line["undecodable"], line["unlabelled"]) == (5, 3, 0)
    assert line["true"] == {"red": 1, "green": 2, "blue": 2}
    assert (line["overall_accuracy"], line["worst_class_accuracy"]) == (1, 1)
    err = capsys.readouterr().err
    assert "3 of 8 pictures could not be read" in err
    assert "red/1.png" in err
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == ["0.png", "1.jpg", "1.png", "1.tiff", *["0.png", "1.png"] * 2]
    assert {(row["true"], row["predicted"]) for row in rows} == {
        *((name, name) for name in NAMES),
        ("red", ""),
        ("blue", ""),
    }
    assert all((row["confidence"] == "") == (row["predicted"] == "") for row in rows)
    confidence = [float(row["confidence"]) for row in rows if row["confidence"]]
    assert line["mean_confidence"] == pytest.approx(np.mean(confidence))


def test_labelled_pictures_are_scored_beside_others(monitor, model, incoming, tmp_path, capsys):
    save(incoming / "loose.png", 0)
    save(incoming / "rde" / "0.png", 0)  # a misspelt class
    save(incoming / "green" / "red.png", 0)  # a mistake
    log = tmp_path / "log.jsonl"
    monitor(model, incoming, "--log", log)
    line = json.loads(log.read_text())
    assert (line["images"], line["unlabelled"], line["undecodable"]) == (9, 2, 0)
    assert line["true"] == {"red": 2, "green": 3, "blue": 2}
    assert line["overall_accuracy"] == pytest.approx(6 / 7)
    assert (line["worst_class"], line["worst_class_accuracy"]) == ("green", pytest.approx(2 / 3))
    assert "2 of 9 pictures are in no folder of a class" in capsys.readouterr().err
    (batch,) = Log.read(log).batches
    assert sum(batch.true.values()) == 7
    assert sum(batch.predicted.values()) == 9
    log.write_text(json.dumps(line | {"unlabelled": 1}))
    with pytest.raises(InputError, match="not of the same images"):
        Log.read(log)
    log.write_text(json.dumps(line | {"unlabelled": -2}))
    with pytest.raises(InputError, match="unlabelled holds -2"):
        Log.read(log)


def test_monitoring_names_classes_as_evaluation_does(monitor, tmp_path):
    composed, decomposed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    model = colour_model(tmp_path / "model.onnx", names=("red", decomposed, "blue"), class_counts=(1, 2, 3))
    for channel, name in enumerate(("red", composed, "blue")):
        save(tmp_path / "in" / name / "0.png", channel)
    monitor(model, tmp_path / "in", "--log", tmp_path / "log.jsonl")
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert (line["true"], line["unlabelled"]) == ({"red": 1, decomposed: 1, "blue": 1}, 0)
    assert line["worst_class"] == "red"  # of equals that of the fewest training images


def test_many_pictures_are_scored_in_batches(monitor, model, incoming, tmp_path):
    for index in range(70):
        save(incoming / "blue" / f"more{index}.png", 2)
    monitor(model, incoming, "--log", tmp_path / "log.jsonl")
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert (line["images"], line["predicted"]) == (76, {"red": 2, "green": 2, "blue": 72})


def test_a_transparent_colour_is_white_to_the_monitor_too(monitor, model, tmp_path):
    pixels = np.full((4, 4, 3), [10, 20, 200])
    pixels[0] = [200, 20, 10]
    for name, key in (("plain", None), ("keyed", [10, 20, 200])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(pixels, 8, key))
        monitor(model, tmp_path / name, "--log", tmp_path / "log.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [max(line["predicted"], key=line["predicted"].get) for line in lines] == ["blue", "red"]


def test_monitoring_says_what_is_wrong_in_one_sentence(monitor, model, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    (tmp_path / "in").mkdir()
    for arguments, words in [
        ((tmp_path / "none.onnx", tmp_path / "in"), "no model file"),
        ((model, tmp_path / "nowhere"), "no file or folder"),
        ((model, tmp_path / "in"), "no picture"),
    ]:
        refused(monitor, *arguments, "--log", log)
        assert words in capsys.readouterr().err
    (tmp_path / "in" / "0.png").write_bytes(b"broken")
    refused(monitor, model, tmp_path / "in", "--log", log)
    assert "none of the 1 pictures" in capsys.readouterr().err.splitlines()[-1]
    (tmp_path / "predict.py").write_text("def load(path): ...\n")
    refused(monitor, model, tmp_path / "in", "--log", log)
    assert "of an older version" in capsys.readouterr().err
    (tmp_path / "predict.py").write_text("import a_package_that_is_not_there\n")
    refused(monitor, model, tmp_path / "in", "--log", log)
    assert "a_package_that_is_not_there" in capsys.readouterr().err
    assert not log.exists()
    refused(monitor, model, tmp_path / "in", "--log", log, "--rows", tmp_path / "gone" / "rows.csv")
    assert "gone" in capsys.readouterr().err


def test_monitoring_a_single_picture(monitor, model, tmp_path):
    save(tmp_path / "one.png", 1)
    monitor(model, tmp_path / "one.png", "--log", tmp_path / "log.jsonl")
    assert json.loads((tmp_path / "log.jsonl").read_text())["predicted"]["green"] == 1
