"""Temperatures and prediction sets in exported files: predictions stay, probabilities become true."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
from deployed import exported_predict
from PIL import Image

from car_ext import InputError, datasets
from car_ext.cli import exits
from car_ext.commands import program
from car_ext.config.config import Config
from car_ext.evaluation.evaluate import evaluate
from car_ext.export import Confidence, export_run, open_file
from car_ext.export.held_out import held_out, logits_of
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.predictions_file import PredictionsFile
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.training.train import train

NAMES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "torchscript": "model.pt", "pt2": "model.pt2"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a part of its training images held out, whose logits are three times what they were."""
    out = tmp_path_factory.mktemp("runs") / "sure"
    train(Config(epochs=15, holdout=0.4, out=str(out)), progress=False)
    return out


@pytest.fixture
def surer(monkeypatch):
    """Makes every run that is opened too sure of itself."""
    plain = FinishedRun.__init__

    def tripled(self, *arguments, **options):
        plain(self, *arguments, **options)
        self.temper({"all": 1 / 3})
        self.facts.pop("temperature")

    monkeypatch.setattr(FinishedRun, "__init__", tripled)


def scored(logits, targets):
    statistics = ScoreStatistics(logits.shape[1])
    statistics.update(logits, targets)
    return statistics.summary()


@pytest.mark.parametrize("temperature", ["auto", "groups"])
def test_every_format_keeps_its_predictions_and_is_less_sure(temperature, run, surer, tmp_path):
    test = datasets.load("digits").test  # which a run with --holdout does not touch
    before = FinishedRun(run, "cpu")(test.images)
    paths = export_run(run, list(NAMES), tmp_path, confidence=Confidence(temperature))
    outputs = {name: open_file(path)(test.images) for name, path in paths.items()}
    for name, logits in outputs.items():
        assert logits.dtype == np.float32
        apart = np.abs(logits - outputs["fp32"]).max(axis=1) / np.abs(logits).max()
        # Where two classes are as good as equal, rounding may choose another one, and with it another group.
        same = logits.argmax(axis=1) == outputs["fp32"].argmax(axis=1)
        assert apart[same].max() <= (2e-2 if name == "fp16" else 1e-4)
        assert same.mean() > 0.99
    assert (outputs["fp32"].argmax(axis=1) == before.argmax(axis=1)).all()
    ratios = np.median(before / outputs["fp32"], axis=1)
    assert ratios.min() > 1
    assert (len(np.unique(ratios.round(3))) > 1) == (temperature == "groups")
    was, became = scored(before, test.targets), scored(outputs["fp32"], test.targets)
    assert became["nll"] < was["nll"]
    assert became["ece"] < was["ece"]
    properties = onnxruntime.InferenceSession(paths["fp32"]).get_modelmeta().custom_metadata_map
    fit = json.loads(properties["temperature_fit"])
    assert fit["loss"][1] < fit["loss"][0]
    assert set(json.loads(properties["temperature"])) == ({"all"} if temperature == "auto" else {"medium", "few"})
    assert fit["images"] == len(held_out(FinishedRun(run, "cpu"), None, None, None))


def test_a_number_is_taken_as_it_is(run, tmp_path):
    images = datasets.load("digits").test.images[:50]
    path = export_run(run, ["torchscript"], tmp_path, confidence=Confidence("2.5"))["torchscript"]
    np.testing.assert_allclose(open_file(path)(images) * 2.5, FinishedRun(run, "cpu")(images), rtol=1e-5, atol=1e-5)


def test_sets_are_in_the_file_and_are_scored_and_printed(run, tmp_path, capsys):
    paths = export_run(run, ["fp32", "torchscript"], tmp_path, confidence=Confidence("auto", 0.25))
    told = capsys.readouterr().err
    assert "classes have fewer held-out images than sets of --conformal 0.25 need" in told
    images = len(held_out(FinishedRun(run), None, None, None))
    assert f"(all), fitted on {images} held-out images: their negative log-likelihood, each class" in told
    found = [evaluate(path, "digits", progress=False).summary["conformal"] for path in paths.values()]
    assert found[0]["alpha"] == 0.25
    assert found[0]["coverage"] == pytest.approx(found[1]["coverage"], abs=1e-3)
    assert found[0]["coverage"] > 0.75
    assert 1 <= found[0]["mean_size"] <= 10
    assert found[0]["per_class"]["0"]["coverage"] > 0.6
    assert {"conformal", "temperature"}.isdisjoint(evaluate(run, "digits", progress=False).summary)
    assert [*evaluate(paths["fp32"], "digits", progress=False).summary["temperature"]] == ["all"]

    predict = exported_predict(tmp_path)
    image = datasets.load("digits").test.images[3]
    Image.fromarray(image[..., 0]).save(tmp_path / "a.png")
    session, facts = predict.load(paths["fp32"])
    assert len(facts["conformal"]["thresholds"]) == 10
    (row,) = predict.probabilities(session, image[None])
    names = predict.prediction_set(row, facts)
    assert names[0] == facts["class_names"][row.argmax()]
    inside = {name for name, p, t in zip(facts["class_names"], row, facts["conformal"]["thresholds"], strict=True)
              if 1 - p <= t}  # fmt: skip
    assert set(names) == inside | {names[0]}
    assert predict.main([str(paths["fp32"]), str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out.endswith(f"\t{{{', '.join(names)}}}\n")


def test_validation_images_are_those_of_the_training(tmp_path):
    train(Config(epochs=1, val_share=0.3, out=str(tmp_path / "run")), progress=False)
    validation = PredictionsFile.read(tmp_path / "run" / "predictions.parquet").splits["val"]
    run = FinishedRun(tmp_path / "run", "cpu")
    logits, targets = logits_of(run, held_out(run, None, None, None))
    assert targets.tolist() == validation.targets.tolist()
    assert logits.argmax(axis=1).tolist() == validation.predicted.tolist()


def folder(path, split):
    """Some images of a split of the digits, as a folder of class folders."""
    for index, (image, label) in enumerate(zip(split.images, split.targets, strict=True)):
        (path / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path / str(label) / f"{index}.png")
    return path


@pytest.fixture
def photos(tmp_path):
    """A run on a folder, and where the folder is."""
    digits = datasets.load("digits")
    folder(tmp_path / "photos" / "train", digits.train)
    folder(tmp_path / "photos" / "test", digits.test.take(range(0, 300)))
    folder(tmp_path / "more", digits.test.take(range(300, 700)))
    train(Config(data=str(tmp_path / "photos"), epochs=8, out=str(tmp_path / "run")), progress=False)
    return tmp_path


def test_neither_training_nor_test_images_are_fitted_on(photos):
    run = FinishedRun(photos / "run", "cpu")
    others = held_out(run, str(photos / "more"), None, None)
    assert len(others) == 400
    assert scored(*logits_of(run, others))["nll"] > 0
    for part in ("test", "train"):
        what = "training" if part == "train" else part
        with pytest.raises(InputError, match=f"are {what} images of the run"):
            held_out(run, str(photos / "photos" / part), None, None)
    with pytest.raises(InputError, match=r"no validation images; .*--held-out"):
        held_out(run, None, None, None)
    (photos / "more" / "9").rename(photos / "more" / "ten")
    with pytest.raises(InputError, match="has the class 'ten', which the model was not trained on"):
        held_out(run, str(photos / "more"), None, None)


def test_where_the_data_are_gone_it_is_said(photos, capsys):
    (photos / "photos").rename(photos / "moved")
    assert len(held_out(FinishedRun(photos / "run", "cpu"), str(photos / "more"), None, None)) == 400
    assert "could not be seen" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "hot"], "--temperature, unless auto or groups, is 'hot'"),
        (["--temperature", "0"], "--temperature is 0: give a positive number"),
        (["--conformal", "1"], "--conformal is 1"),
        (["--held-out", "digits"], "--held-out is what"),
        (["--temperature", "2", "--held-out", "digits"], "--held-out is what"),
        (["--temperature", "auto", "--held-out", "nowhere"], "nowhere"),
        (["--conformal", "0.1", "--held-out", "digits"], "images of the run"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(arguments, message, run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["car-ext", "export", str(run), "--out", str(tmp_path), *arguments])
    assert exits.run(program.main) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not list(tmp_path.iterdir())


def test_logits_that_do_not_fit_into_memory_are_refused(run, monkeypatch):
    monkeypatch.setattr("car_ext.export.held_out.available_bytes", lambda: 10_000)
    finished = FinishedRun(run, "cpu")
    with pytest.raises(InputError, match=r"held-out images over 10 classes takes .* fewer images with --held-out"):
        logits_of(finished, held_out(finished, None, None, None))
