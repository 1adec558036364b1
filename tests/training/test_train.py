"""A run can be killed at any moment and still ends in the same bits; bad input leaves no folder behind."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from finished import rows
from PIL import Image
from torch import nn

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.config.recipe import read_recipe, second_stage
from car_ext.datasets import load
from car_ext.errors import InputError
from car_ext.metrics.predictions_file import PredictionsFile
from car_ext.models import small
from car_ext.run import checkpoint
from car_ext.run.classifier import load_run
from car_ext.training import optimizer, progress
from car_ext.training.data import load_data
from car_ext.training.optimizer import learning_rate
from car_ext.training.plan import plan
from car_ext.training.train import train


def dropout_net(channels: int) -> nn.Module:
    conv = nn.Conv2d(channels, 8, 3)
    return nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5))


def one_pixel(channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 8), nn.BatchNorm2d(4), nn.Flatten())


small.NETWORKS["dropout_net"] = dropout_net  # both in the test and in the process that dies
small.NETWORKS["one_pixel"] = one_pixel

JOBS = {
    "adamw-car": Config(
        model="dropout_net", augment="crop", regularizer="car", epochs=4, batch_size=70, imbalance_ratio=20
    ),
    "sgd": Config(model="dropout_net", optimizer="sgd", lr=0.05, clip_grad=1.0, epochs=4, batch_size=64),
}
# In the first epoch, within the second, before and after a checkpoint takes its name (an epoch has 5 steps);
# with the epoch of the checkpoint that each kill leaves when they follow one another.
MOMENTS = {"step 3": None, "step 8": 1, "rename 2": 2, "removal 1": 3}


def doomed(values: dict, moment: str) -> None:
    """Train, and die of SIGKILL at that moment: "step N", "rename N" or "removal N"."""
    kind, number = moment.split()
    seen = 0

    def dies(function, counts):
        def wrapper(*args, **kwargs):
            nonlocal seen
            seen += bool(counts(*args))
            if seen == int(number):
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    if kind == "step":
        optimizer.learning_rate = dies(learning_rate, lambda *args: True)
    elif kind == "rename":
        Path.rename = dies(Path.rename, lambda path, target: "checkpoint" in path.name)
    else:
        shutil.rmtree = dies(shutil.rmtree, lambda path, *args: path.suffix != ".tmp")
    train(Config.from_dict(values), progress=False)


@pytest.fixture(scope="module", params=JOBS)
def finished(request, tmp_path_factory):
    config = dataclasses.replace(JOBS[request.param], out=str(tmp_path_factory.mktemp("run") / "whole"))
    return config, train(config, progress=False)


@pytest.fixture
def photos(tmp_path):
    """Three classes of 16 x 16 noise, darker and brighter."""
    random, root = np.random.default_rng(0), tmp_path / "photos"
    for folder, number in itertools.product((root / "train", root / "test"), range(3)):
        (folder / "abc"[number]).mkdir(parents=True)
        for index in range(12):
            pixels = random.integers(0, 60, (16, 16, 3), dtype=np.uint8) + np.uint8(90 * number)
            Image.fromarray(pixels).save(folder / "abc"[number] / f"{index}.png")
    return root


def test_killed_runs_end_in_the_same_bits(finished, tmp_path):
    whole, summary = finished
    config = dataclasses.replace(whole, out=str(tmp_path / "run"), resume=True)
    for moment, epoch in MOMENTS.items():
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # it imports helpers too
        command = [sys.executable, __file__, json.dumps(config.to_dict()), moment]
        assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
        found = checkpoint.load_latest(config.run_dir)
        assert (found and found[0]) == epoch
    assert not (config.run_dir / "summary.json").exists()
    again = train(config, progress=False)

    _, expected, _ = checkpoint.load_latest(whole.run_dir)
    epoch, tensors, _ = checkpoint.load_latest(config.run_dir)
    assert epoch == 4
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert ("objective.car.ema" in tensors) == (config.regularizer == "car")
    assert rows(config) == rows(whole)
    assert {**again, "seconds": 0} == {**summary, "seconds": 0}


def test_a_run_folder_holds_everything(finished):
    config, summary = finished
    run = config.run_dir
    names = {path.name for path in run.iterdir()}
    files = {"config.yaml", "metrics.jsonl", "findings.npz", "predictions.parquet", "summary.json"}
    assert names == files | {"tensorboard", "checkpoint-000004"}
    assert read_recipe(run / "config.yaml") == config
    assert json.loads((run / "summary.json").read_text()) == summary
    names, splits = PredictionsFile.read(run / "predictions.parquet")
    assert names == tuple(summary["class_counts"])
    assert splits["test"].correct.mean() == summary["overall_accuracy"]
    assert splits["test"].loss.mean() == pytest.approx(summary["scores"]["nll"])
    assert splits["test"].logits is None
    assert summary["method"] == ("ce+car" if config.regularizer == "car" else "ce")
    assert 0 < summary["train_worst_class_accuracy"] <= 1 or summary["worst_class_ratio"] is None
    lines = rows(config)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["test_worst"] == summary["worst_class_accuracy"]
    if config.regularizer == "car":
        assert all(line["loss"] == pytest.approx(line["base_loss"] + 0.5 * line["sigma"], abs=1e-6) for line in lines)
        assert all(line["sigma"] > 0 for line in lines)
    else:
        assert all(line["sigma"] is None and line["loss"] == line["base_loss"] for line in lines)


def test_tensorboard_events_are_readable(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config, _ = finished
    events = EventAccumulator(str(config.run_dir / "tensorboard"))
    events.Reload()
    logged = [event.value for event in events.Scalars("test_overall")]
    assert logged == pytest.approx([line["test_overall"] for line in rows(config)])


def test_a_loaded_run_is_the_trained_classifier(finished):
    config, summary = finished
    model, state = load_run(config.run_dir)
    assert not model.training
    data = load("digits", imbalance_ratio=config.imbalance_ratio)
    assert state["class_names"] == list(data.class_names)
    assert state["class_counts"] == data.class_counts.tolist()
    assert state["mean"] == pytest.approx([data.train.images.mean() / 255], rel=1e-4)
    assert state["std"] == pytest.approx([data.train.images.std() / 255], rel=1e-4)
    assert model.std.tolist() == pytest.approx(state["std"])
    with torch.no_grad():
        predictions = model(torch.from_numpy(data.test.images)).argmax(dim=1).numpy()
    assert (predictions == data.test.targets).mean() == pytest.approx(summary["overall_accuracy"])


def test_a_folder_with_a_run_is_left_alone(finished):
    config, _ = finished
    with pytest.raises(InputError, match=r"--out .*whole is not empty.*--resume"):
        train(config, progress=False)


def test_resuming_a_finished_run_returns_its_summary(finished):
    config, summary = finished
    assert train(dataclasses.replace(config, resume=True, workers=1), progress=False) == summary


def test_resuming_with_other_options_names_them(finished):
    config, _ = finished
    with pytest.raises(InputError, match=r"differ in epochs, seed;"):
        train(dataclasses.replace(config, resume=True, epochs=9, seed=9), progress=False)


def test_resuming_with_other_data_is_refused(finished, tmp_path, monkeypatch):
    config, _ = finished
    copy = dataclasses.replace(config, out=str(tmp_path / "copy"), resume=True)
    shutil.copytree(config.run_dir, copy.run_dir)
    (copy.run_dir / "summary.json").unlink()
    monkeypatch.setattr(datasets, "load", lambda *args, **options: load("digits", imbalance_ratio=2))
    with pytest.raises(InputError, match="classes of digits, or how many"):
        train(copy, progress=False)


def test_a_folder_without_a_checkpoint_cannot_be_loaded(tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "digts"}, "digits"),
        ({"model": "convnext"}, "convnext"),
        ({"device": "gpu"}, "--device is 'gpu'"),
        ({"device": "cuda:99"}, "--device is cuda:99"),
        ({"amp": "fp16", "device": "cpu"}, "--amp is fp16"),
        ({"imbalance_ratio": 1000.0}, "1000"),
    ],
)
def test_bad_input_leaves_no_folder(tmp_path, options, words):
    config = Config(out=str(tmp_path / "run"), **options)
    with pytest.raises(InputError, match=words):
        train(config, progress=False)
    assert not config.run_dir.exists()


@pytest.mark.parametrize("regularizer", ["none", "car"])
def test_a_diverging_run_names_epoch_and_step_and_keeps_its_checkpoint(tmp_path, monkeypatch, regularizer):
    config = dataclasses.replace(JOBS["sgd"], out=str(tmp_path / "run"), clip_grad=None, regularizer=regularizer)
    rate = learning_rate
    monkeypatch.setattr(optimizer, "learning_rate", lambda step, *rest: 1e30 if step >= 7 else rate(step, *rest))
    with pytest.raises(InputError, match=r"not finite at epoch 2, step [45]; lower --lr \(0.05\)"):
        train(config, progress=False)
    epoch, tensors, _ = checkpoint.load_latest(config.run_dir)
    assert epoch == 1
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_progress_off_a_terminal_is_a_few_lines(tmp_path, capsys):
    train(Config(out=str(tmp_path / "run"), epochs=21, batch_size=256, regularizer="car"))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == [f"{n}/21" for n in range(3, 22, 3)]
    assert all("sigma" in line and "worst" in line for line in lines)


def test_scoring_has_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress, "DELAY", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.Progress(Config(), 1, 0) as shown:
        assert list(shown.scoring([1, 2], "training")) == [1, 2]
    with progress.Progress(Config(), 1, 0, shown=False) as silent:
        assert list(silent.scoring([3], "test")) == [3]
    text = capsys.readouterr().err
    assert "scoring the training images" in text
    assert "scoring the test images" not in text


def test_the_default_job_fits_its_training_set(tmp_path):
    summary = train(Config(out=str(tmp_path / "run")), progress=False)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["train_accuracy"] > 0.98
    assert summary["overall_accuracy"] > 0.7


@pytest.mark.parametrize(
    ("size", "asked", "expected", "stored"),
    [
        (None, "auto", "crop-flip", 8),
        (224, "auto", "rrc", 246),
        (64, "auto", "crop-flip", 64),
        (224, "none", "none", 224),
    ],
)
def test_augmentation_follows_the_image_size(monkeypatch, size, asked, expected, stored):
    def sized(data, image_size, *rest, **options):
        return dataclasses.replace(load("digits"), image_size=image_size or 8)

    monkeypatch.setattr(datasets, "load", sized)
    data, seen, augment = load_data(Config(data="photos", img_size=size, augment=asked))
    assert (augment, data.image_size, seen) == (expected, stored, size or 8)


def test_a_second_stage_takes_no_stairs_from_the_first(tmp_path):
    first = Config(out=str(tmp_path / "first"), epochs=3, schedule="step", step_epochs="2")
    train(first, progress=False)
    assert second_stage(first.run_dir, {"retrain": "crt"}, "here").drop_epochs == []
    with pytest.raises(InputError, match="step_epochs is 2, but must rise"):
        second_stage(first.run_dir, {"epochs": 2}, "here")


def test_a_caller_hears_of_each_epoch_and_can_end_the_run(tmp_path):
    from hears import Hears  # this file is a script too, which knows no helpers

    config, heard = Config(out=str(tmp_path / "run"), epochs=3), []

    def stop_after_two(row):
        heard.append(row)
        if row["epoch"] == 2:
            raise StopIteration

    with pytest.raises(StopIteration):
        train(config, progress=False, callbacks=[Hears(stop_after_two)])
    assert heard == [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert checkpoint.load_latest(config.run_dir)[0] == 2
    whole = train(dataclasses.replace(config, out=str(tmp_path / "whole")), progress=False)
    again = train(dataclasses.replace(config, resume=True), progress=False, callbacks=[Hears(heard.append)])
    assert [row["epoch"] for row in heard] == [1, 2, 3]
    assert heard[-1]["test_balanced"] == again["balanced_accuracy"] == whole["balanced_accuracy"]


def test_an_epoch_outlives_a_test_image_that_cannot_be_read(photos, tmp_path):
    config = Config(data=str(photos), model="cifar_resnet8", epochs=2, batch_size=8, cache_gb=0, workers=0)
    whole = dataclasses.replace(config, out=str(tmp_path / "whole"))
    expected = train(whole, progress=False)
    image = photos / "test" / "b" / "1.png"  # not one that the data are known again by
    intact = image.read_bytes()
    image.write_bytes(intact[:100])
    broken = dataclasses.replace(config, out=str(tmp_path / "broken"), resume=True)
    for _ in range(2):
        with pytest.raises(InputError, match=r"b/1.png.*cannot be decoded"):
            train(broken, progress=False)
        assert (checkpoint.load_latest(broken.run_dir)[0], rows(broken)) == (1, [])
    image.write_bytes(intact)
    # As a kill in the middle of the line leaves it.
    (broken.run_dir / "metrics.jsonl").write_text('{"epoch": 1, "lo')
    assert {**train(broken, progress=False), "seconds": 0} == {**expected, "seconds": 0}
    assert rows(broken) == rows(whole)
    (broken.run_dir / "summary.json").unlink()
    (broken.run_dir / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match=r"metrics.jsonl holds 0 epochs, .* of epoch 2"):
        train(broken, progress=False)


@pytest.mark.parametrize("begin", [lambda config: train(config, progress=False), plan])
def test_batches_of_one_image_are_refused_where_a_layer_normalises_one_pixel(begin, tmp_path):
    config = Config(model="one_pixel", batch_size=1, epochs=1, out=str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"batches hold 1 image, .* give --batch-size 2 or more"):
        begin(config)
    assert not config.run_dir.exists()


def test_a_contrast_that_normalises_one_value_is_refused(tmp_path):
    config = Config(contrast="paco", batch_size=1, epochs=1, out=str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"batches hold 1 image, .* --contrast"):
        train(config, progress=False)


def test_batches_of_one_image_train_where_there_are_pixels_to_normalise(photos, tmp_path):
    config = Config(data=str(photos), model="dropout_net", batch_size=1, epochs=1, regularizer="car")
    train(dataclasses.replace(config, out=str(tmp_path / "run")), progress=False)


def test_flipped_images_are_scored_with_the_others(tmp_path):
    config = Config(out=str(tmp_path / "run"), epochs=2, test_flip=True)
    summary = train(config, progress=False)
    model, _ = load_run(config.run_dir)
    test = load("digits").test
    images = torch.from_numpy(test.images)
    with torch.no_grad():
        logits = (model(images) + model(images.flip(2))) / 2
        plain = model(images)
    correct = (logits.argmax(1).numpy() == test.targets).mean()
    assert summary["overall_accuracy"] == pytest.approx(correct)
    assert correct != (plain.argmax(1).numpy() == test.targets).mean()


def test_held_out_images_are_scored_in_place_of_the_test_set(tmp_path):
    summary = train(Config(out=str(tmp_path / "run"), epochs=1, holdout=0.25), progress=False)
    counts = load("digits").class_counts
    assert list(summary["class_counts"].values()) == (counts - np.maximum(np.round(counts / 4), 1)).tolist()
    assert summary["data"] == "digits, scored on 0.25 of its training images"


def test_the_script_prints_a_table_and_returns_2_on_bad_input(tmp_path):
    script = Path(__file__).parents[2] / "train" / "run.py"
    flags = ["--epochs", "2", "--config", "digits", "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, script, *flags], capture_output=True, text=True, check=True)
    assert "worst class" in done.stdout
    assert str(tmp_path / "run") in done.stdout
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["epochs"] == 2
    again = subprocess.run([sys.executable, script, *flags], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr.startswith("error: --out ")
    assert "Traceback" not in again.stderr


if __name__ == "__main__":
    doomed(json.loads(sys.argv[1]), sys.argv[2])
