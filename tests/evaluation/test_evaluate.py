"""Several models over the same images, from Python and from the command line."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from pages import Parsed, assert_self_contained
from PIL import Image

from car_ext import InputError, datasets
from car_ext.cli import exits
from car_ext.config.config import Config
from car_ext.datasets.reading import read_ahead
from car_ext.evaluation import evaluate
from car_ext.evaluation.evaluate import default_batch_size, evaluate_all
from car_ext.evaluation.score import score
from car_ext.export import export_run
from car_ext.metrics.counts import confusion_counts
from car_ext.metrics.intervals import wilson_interval, worst_class_interval
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.mistakes import Mistakes
from car_ext.metrics.predictions_file import PredictionsFile
from car_ext.run.folder import RunFolder
from car_ext.training import loader
from car_ext.training.train import train

SCRIPTS = Path(__file__).parents[2] / "export"
QUICK = {"torchscript": "model.pt", "pt2": "model.pt2"}  # to export


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ce"
    summary = train(Config(epochs=15, out=str(out)), progress=False)
    return out, summary, export_run(out, ["fp32", *QUICK])


@pytest.fixture(scope="module")
def scored(run):
    out, _, paths = run
    return evaluate_all([out, *paths.values()], "digits", progress=False)


def test_every_runtime_gives_the_metrics_of_training(run, scored):
    _, training, paths = run
    assert [summary["model"] for summary, *_ in scored] == list(map(str, [run[0], *paths.values()]))
    for summary, findings, _ in scored:
        shared = set(training) & set(summary) - {"model", "data", "scores", "worst_class_ratio_same"}
        assert {"overall_accuracy", "worst_class", "worst_class_ratio", "many", "few", "per_class_accuracy"} <= shared
        for key in shared:
            assert summary[key] == training[key], key
        assert findings.confusion.counts.sum() == summary["images"] == 700
        for key, value in training["scores"].items():  # of logits, which the runtimes round differently
            assert summary["scores"][key] == pytest.approx(value, rel=1e-4), key
    providers = [summary["provider"].split()[0] for summary, *_ in scored]
    assert providers[0] == "torch"
    assert providers[1].endswith("ExecutionProvider")
    assert providers[2:] == ["TorchScript", "torch.export"]
    assert [summary["format"] for summary, *_ in scored] == ["PyTorch", "float32", "TorchScript", "torch.export"]


def test_every_runtime_finds_what_training_found(run, scored):
    trained = RunFolder(run[0]).read_findings()
    assert len(trained.examples)
    for _, findings, _ in scored:
        assert np.array_equal(findings.confusion, trained.confusion)
        for key in ("image", "true", "predicted"):
            assert findings.examples[key].tolist() == trained.examples[key].tolist()
        assert (findings.thumbnails == trained.thumbnails).all()
        np.testing.assert_allclose(findings.examples["confidence"], trained.examples["confidence"], rtol=1e-4)
        np.testing.assert_allclose(findings.reliability["accuracy"], trained.reliability["accuracy"])


def test_differences_are_to_the_first(scored):
    first, *later = (summary for summary, *_ in scored)
    assert "difference" not in first
    for summary in later:
        assert summary["difference"]["worst_class_accuracy"] == 0
        assert set(summary["difference"]["per_class_accuracy"].values()) == {0.0}


def test_intervals_and_speeds(scored):
    for summary, findings, _ in scored:
        bounds, confusion = summary["intervals"], findings.confusion.dense()
        low, high = wilson_interval(np.diag(confusion), confusion.sum(axis=0))
        assert bounds["per_class_accuracy"]["3"] == [low[3], high[3]]
        assert bounds["overall_accuracy"] == [*wilson_interval(np.trace(confusion), confusion.sum())]
        assert bounds["worst_class_accuracy"] == [*worst_class_interval(confusion)]
        assert "too low" in bounds["note"]
        assert summary["images_per_second"] > 0
        for calls in ("batch", "single"):
            assert 0 < summary["latency_ms"][calls]["p50"] <= summary["latency_ms"][calls]["p95"]
        json.dumps(summary, allow_nan=False)


def test_counting_beside_the_model_counts_the_same():
    random = np.random.default_rng(0)
    batches = [(random.normal(size=(size, 4)), random.integers(0, 4, size)) for size in (5, 5, 3)]
    told = []
    scoring, calls = score(lambda images: 2 * images, batches, 4, told.append)
    together, wrong = ScoreStatistics(4), Mistakes()
    for images, labels in batches:
        together.update(2 * images, labels)
        wrong.update(2 * images, labels)
    confusion = scoring.confusion
    assert scoring.statistics.summary() == together.summary()
    assert scoring.mistakes.worth_showing(confusion).tolist() == wrong.worth_showing(confusion).tolist() != []
    everything, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert np.array_equal(confusion, confusion_counts(everything.argmax(axis=1), labels, 4))
    assert told == [images for images, _ in calls] == [5, 5, 3]
    for wrong in (0, 2):  # the last one's error must not be lost
        broken = [
            (images * (np.nan if number == wrong else 1), labels) for number, (images, labels) in enumerate(batches)
        ]
        with pytest.raises(InputError, match="nan"):
            score(lambda images: images, broken, 4)


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


@pytest.mark.parametrize("cache_bytes", [0, None])
@pytest.mark.parametrize(("batch_size", "threads"), [(5, 1), (5, 8), (12, 2), (1, 3)])
def test_reading_ahead_gives_the_batches_of_training(photos, cache_bytes, batch_size, threads):
    split = datasets.load(photos, cache_bytes=cache_bytes).test
    ahead = list(read_ahead(split, 13, batch_size, threads))
    expected = list(loader.ordered_loader(split, 13, batch_size, workers=0, pin_memory=False))
    assert [len(images) for images, _ in ahead] == [len(images) for images, _ in expected]
    for (images, labels), (true_images, true_labels) in zip(ahead, expected, strict=True):
        np.testing.assert_array_equal(images, true_images)
        np.testing.assert_array_equal(labels, true_labels)


def test_a_picture_that_cannot_be_read_ends_the_evaluation(photos):
    split = datasets.load(photos, cache_bytes=0).test
    (photos / "test" / "b" / "1.png").write_text("no picture")
    with pytest.raises(InputError, match="cannot be decoded"):
        list(read_ahead(split, 16, 2, 2))


def test_the_batch_follows_the_memory(monkeypatch):
    for free, size, batch in [(128 << 30, 224, 256), (1 << 30, 224, 2), (4 << 30, 224, 8), (0, 32, 1)]:
        monkeypatch.setattr(evaluate, "default_cache_bytes", lambda free=free: free // 4)
        assert default_batch_size(size) == batch


def test_a_folder_with_a_test_split_alone_is_enough(photos, tmp_path):
    out = tmp_path / "run"
    training = train(Config(data=str(photos), epochs=3, batch_size=4, out=str(out)), progress=False)
    path = export_run(out, ["torchscript"])["torchscript"]
    shutil.rmtree(photos / "train")
    scores, *_ = evaluate.evaluate(path, str(photos), progress=False)
    assert scores["per_class_accuracy"] == training["per_class_accuracy"]
    shutil.rmtree(photos / "test" / "a")  # labels now differ from the model's, names do not
    scores, *_ = evaluate.evaluate(path, str(photos), progress=False)
    assert scores["per_class_accuracy"] == {**training["per_class_accuracy"], "a": None}
    assert scores["intervals"]["per_class_accuracy"]["a"] is None
    margins = scores["scores"]["loma"]
    assert (margins.pop("a"), list(margins), None in margins.values()) == (None, ["b", "c"], False)
    (photos / "test" / "c").rename(photos / "test" / "tulip")
    with pytest.raises(InputError, match=r"model\.pt: .*'tulip', which the model was not trained on"):
        evaluate.evaluate(path, str(photos), progress=False)


@pytest.mark.parametrize("missing", [(), ("b",), ("a", "c")])
def test_a_folder_of_class_folders_is_a_test_set(missing, photos, tmp_path, capsys):
    out = tmp_path / "run"
    training = train(Config(data=str(photos), epochs=2, batch_size=4, out=str(out)), progress=False)
    folder = (photos / "test").rename(tmp_path / "new")
    for name in missing:
        shutil.rmtree(folder / name)
    scores, *_ = evaluate.evaluate(out, str(folder), progress=False)
    expected = training["per_class_accuracy"] | dict.fromkeys(missing)
    assert scores["per_class_accuracy"] == expected
    assert scores["worst_class"] not in missing
    assert scores["worst_class_accuracy"] == min(value for value in expected.values() if value is not None)
    note = f"{len(missing)} of 3 classes " + ("has" if len(missing) == 1 else "have")
    assert (note in capsys.readouterr().err) == (note in "".join(scores["data_notes"])) == bool(missing)


def test_an_unfinished_run_has_no_ratio(run, tmp_path):
    (checkpoint,) = run[0].glob("checkpoint-*")
    (tmp_path / checkpoint.name).symlink_to(checkpoint)
    scores, *_ = evaluate.evaluate(tmp_path, "digits", progress=False)
    assert scores["worst_class_ratio"] is None
    assert scores["worst_class_accuracy"] == run[1]["worst_class_accuracy"]


def test_the_number_of_channels_must_fit(run, tmp_path):
    (tmp_path / "test" / "7").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "test" / "7" / "0.png")
    with pytest.raises(InputError, match="3 channel"):
        evaluate.evaluate(run[2]["pt2"], str(tmp_path), progress=False)


@pytest.fixture
def script(monkeypatch):
    """Runs a script in this process, where torch has been imported already, and returns its exit code."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return exits.run(runpy.run_path(str(SCRIPTS / name))["main"])

    return call


def test_scripts_end_to_end(run, script, capsys, tmp_path):
    out, training, _ = run
    assert script("to_onnx.py", out, "--out", tmp_path, "--formats", "torchscript", "pt2") == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / name) for name in QUICK.values()
    ]
    assert script("to_onnx.py", out, "--out", tmp_path / "la.pt2", "--format", "pt2", "--logit-adjust", "1") == 0
    capsys.readouterr()
    assert script("evaluate.py", tmp_path / "model.pt", "--data", "digits", "--json", tmp_path / "s.json") == 0
    shown = capsys.readouterr().out
    for word in ("worst class", "confused with", "95 % interval", "images/s", "p95", "too low"):
        assert word in shown
    assert f"report written to {tmp_path / 'evaluation.html'}" in shown.replace("\n", "")
    page = Parsed((tmp_path / "evaluation.html").read_text(encoding="utf-8"))
    assert_self_contained(page)
    assert "Report: model.pt (TorchScript)" in page.text
    assert json.loads((tmp_path / "s.json").read_text())["per_class_accuracy"] == training["per_class_accuracy"]

    models = [out, tmp_path / "model.pt2", tmp_path / "la.pt2"]
    arguments = (*models, "--data", "digits", "--json", tmp_path / "s.json", "--batch-size", "100", "--no-report")
    arguments = (*arguments, "--logits", "--test-prior", "uniform")
    assert script("evaluate.py", *arguments, "--gate", "class=1") == 0
    assert script("evaluate.py", *arguments[1:], "--gate", "class=0", "--gate-test", "none") == 1
    out, told = capsys.readouterr()
    assert "with the classes as frequent as in uniform" in out
    assert told.startswith(f"gate: {tmp_path / 'la.pt2'}: the accuracy of a class fell by 0.")
    same, other = json.loads((tmp_path / "s.json").read_text())
    fallen = [name for name, change in other["difference"]["per_class_accuracy"].items() if change < 0]
    assert fallen
    assert all(f"{name!r} by 0." in told for name in fallen)
    assert same["batch_size"] == 100
    for number, summary in (("", same), ("-2", other)):
        assert summary["prior_accuracy"] == pytest.approx(summary["balanced_accuracy"])
        assert summary["predictions"] == str(tmp_path / f"s.predictions{number}.parquet")
        names, splits = PredictionsFile.read(Path(summary["predictions"]))
        (predictions,) = splits.values()
        assert predictions.correct.mean() == summary["overall_accuracy"]
        assert (predictions.logits.argmax(axis=1) == predictions.predicted).all()
        assert [*summary["class_counts"]] == [*names]


@pytest.fixture(scope="module")
def both(run, tmp_path_factory):
    """A run and its int8 file, by the script's own path."""
    folder = tmp_path_factory.mktemp("both")
    export_run(run[0], ["int8"], folder)
    return run[0], folder / "model.int8.onnx"


def test_a_report_of_all_that_was_scored(both, script, visit, capsys, tmp_path):
    out = tmp_path / "page.html"
    assert script("evaluate.py", *both, "--data", "digits", "--report", out) == 0
    assert f"report written to {out}" in capsys.readouterr().out.replace("\n", "")
    assert not [*both[0].glob("evaluation.html"), *both[1].parent.glob("*.html")]
    page = visit(out)
    titles = page.locator("h1, h2").all_inner_texts()
    assert titles[0] == "Report: ce (PyTorch) against model.int8.onnx (int8)"
    sections = ["Scores", "Classes", "Confusions", "Calibration", "Spectrum", "Setup", "Terms"]
    assert titles[1:] == sections  # and no training
    assert page.locator("#confusions img").count() > 8
    speeds = page.locator("table", has=page.locator("caption", has_text="Speed")).inner_text()
    assert "ms a batch, p50, p95" in speeds
    assert "points against ce (PyTorch)" in page.locator(".lead").nth(1).inner_text()
    page.locator("html[data-shown='6']").wait_for(state="attached")  # classes, groups, 2 matrices, bins, spectrum


def test_a_place_that_takes_no_report_fails_no_evaluation(both, script, capsys):
    taken = both[1].parent / "evaluation.html"
    taken.mkdir()
    arguments = (both[1], both[0], "--data", "digits")
    assert script("evaluate.py", *arguments, "--gate", "overall=1") == 0
    assert "no report written: " in capsys.readouterr().err
    assert script("evaluate.py", *arguments, "--report", taken) == 2
    taken.rmdir()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("to_onnx.py", ["nowhere"], "nowhere"),
        ("to_onnx.py", ["RUN", "--format", "int8", "--calibration-images", "0"], "--calibration-images is 0"),
        ("evaluate.py", ["nothing.onnx", "--data", "digits"], "no model file 'nothing.onnx'"),
        ("evaluate.py", [__file__, "--data", "digits"], "give one that ends in .onnx"),
        ("evaluate.py", [str(SCRIPTS), "--data", "digits"], "holds no checkpoint"),
        ("evaluate.py", ["MODEL", "--data", "digit"], "did you mean 'digits'"),
        ("evaluate.py", ["MODEL", "MODEL", "--data", "digits"], "each once"),
        ("evaluate.py", ["MODEL", "--data", "digits", "--test-prior", "no.csv"], "no.csv is no file"),
        ("evaluate.py", ["MODEL", "--data", "digits", "--logits"], "add --predictions FILE.parquet"),
        ("evaluate.py", ["MODEL", "--data", "digits", "--json", "no/such/s.json"], "its folder does not exist"),
        ("evaluate.py", ["MODEL", "--data", "digits", "--report", "no/such/r.html"], "its folder does not exist"),
        ("evaluate.py", ["MODEL", "--data", "digits", "--gate", "worst=0"], "give two or more"),
        ("evaluate.py", ["MODEL", "RUN", "--data", "digits", "--gate", "worst"], "--gate worst"),
        ("evaluate.py", ["MODEL", "--data", "digits", "--batch-size", "0"], "--batch-size is 0"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(name, arguments, message, run, script, capsys):
    known = {"MODEL": run[2]["torchscript"], "RUN": run[0]}
    assert script(name, *[known.get(argument, argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
