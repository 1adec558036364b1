"""A run can be killed at any moment and still ends in the same bits; bad input leaves no folder behind."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.config.recipe import read_recipe, second_stage
from car_ext.datasets import Split, load
from car_ext.errors import InputError
from car_ext.machine import device
from car_ext.methods.augment.images import Augmentation
from car_ext.methods.samplers import build_sampler
from car_ext.metrics.predictions_file import PredictionsFile
from car_ext.models import small
from car_ext.run import checkpoint
from car_ext.run.classifier import load_run
from car_ext.seeds import derive
from car_ext.training import loader, optimizer, progress
from car_ext.training.callbacks import Callback
from car_ext.training.data import load_data
from car_ext.training.job import Job
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


def rows(config: Config) -> list[dict]:
    lines = (config.run_dir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in lines]


def test_killed_runs_end_in_the_same_bits(finished, tmp_path):
    whole, summary = finished
    config = dataclasses.replace(whole, out=str(tmp_path / "run"), resume=True)
    for moment, epoch in MOMENTS.items():
        command = [sys.executable, __file__, json.dumps(config.to_dict()), moment]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_half_precision_learns_and_resumes(tmp_path, amp):
    config = Config(out=str(tmp_path / "run"), device="cuda", amp=amp, model="cifar_resnet8", regularizer="car")
    summary = train(config, progress=False)
    assert summary["overall_accuracy"] > 0.6
    (config.run_dir / "summary.json").unlink()
    again = train(dataclasses.replace(config, resume=True), progress=False)
    assert again["per_class_accuracy"] == summary["per_class_accuracy"]


def test_bfloat16_on_a_cpu_learns_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)  # others compute it too, slowly
    options = {"amp": "bf16", "channels_last": True, "model": "cifar_resnet8", "regularizer": "car", "epochs": 6}
    config = Config(out=str(tmp_path / "run"), device="cpu", **options)
    summary = train(config, progress=False)
    assert (summary["amp"], summary["overall_accuracy"] > 0.4) == ("bfloat16", True)
    exact = train(dataclasses.replace(config, out=str(tmp_path / "exact"), amp="none"), progress=False)
    assert summary["scores"] != exact["scores"]  # it did round
    (config.run_dir / "summary.json").unlink()
    again = train(dataclasses.replace(config, resume=True), progress=False)
    assert again["per_class_accuracy"] == summary["per_class_accuracy"]


def test_bfloat16_is_refused_where_the_cpu_lacks_it(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)
    with pytest.raises(InputError, match="--amp is bf16, but this CPU has no AVX512-BF16 or AMX"):
        train(Config(out=str(tmp_path / "run"), device="cpu", amp="bf16"), progress=False)
    assert not (tmp_path / "run").exists()


WIDE = Config(device="cpu", img_size=24, model="cifar_resnet8", regularizer="car", epochs=2)


def cpu(monkeypatch, gains: bool, computes: bool = True) -> None:
    monkeypatch.setattr(device, "cpu_gains_by_bf16", lambda: gains)
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: computes)


class Interrupt(Callback):
    def after_epoch(self, row) -> None:
        raise KeyboardInterrupt


def test_auto_is_bfloat16_on_a_cpu_that_gains_and_a_run_goes_on_in_what_it_began_in(tmp_path, monkeypatch, capsys):
    found = {}
    for gains in (True, False):
        whole, config = (dataclasses.replace(WIDE, out=str(tmp_path / f"{gains} {name}")) for name in ("whole", "cut"))
        cpu(monkeypatch, gains)
        summary = train(whole, progress=gains)
        with pytest.raises(KeyboardInterrupt):
            train(config, progress=False, callbacks=[Interrupt()])
        cpu(monkeypatch, not gains)  # auto says otherwise by now
        again = train(dataclasses.replace(config, resume=True), progress=False)
        assert summary["amp"] == again["amp"] == ("bfloat16" if gains else "none")
        assert rows(config) == rows(whole)
        found[gains] = rows(whole)
    assert "precision bf16 (auto: this CPU is faster in it)" in capsys.readouterr().err
    assert found[True] != found[False]  # it did round


def test_a_run_in_bfloat16_is_not_gone_on_with_where_the_cpu_cannot(tmp_path, monkeypatch):
    config = dataclasses.replace(WIDE, out=str(tmp_path / "run"))
    cpu(monkeypatch, gains=True)
    with pytest.raises(KeyboardInterrupt):
        train(config, progress=False, callbacks=[Interrupt()])
    cpu(monkeypatch, gains=False, computes=False)
    with pytest.raises(InputError, match=r"this --out began in bf16, but this CPU has no AVX512-BF16.*new --out"):
        train(dataclasses.replace(config, resume=True), progress=False)


@pytest.mark.parametrize(
    ("options", "against"),
    [
        ({"img_size": None}, "images of up to 16 pixels"),
        ({"tune": "head"}, "the head alone is trained"),
        ({"model": "efficientnet_lite0"}, "depthwise convolutions, which are not faster in bf16"),
        ({}, None),
    ],
)
def test_auto_asks_the_network_too(monkeypatch, options, against):
    cpu(monkeypatch, gains=True)
    said = plan(dataclasses.replace(WIDE, **options)).precision
    assert said == (f"float32 (auto: {against})" if against else "bf16 (auto: this CPU is faster in it)")


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


def test_batches_do_not_depend_on_the_workers():
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3), dtype=np.uint8)
    split = Split(images, np.arange(50) % 5)

    def epoch(number: int, workers: int) -> list[list[np.ndarray]]:
        sampler = build_sampler("class_balanced", split.targets, 16, 0)
        batches = loader.train_loader(split, sampler, workers, pin_memory=False)
        return [[np.asarray(part) for part in batch] for batch in loader.begin_epoch(batches, number, 2)]

    alone, others = epoch(1, 0), epoch(1, 2)
    assert all(np.array_equal(a, b) for x, y in zip(alone, others, strict=True) for a, b in zip(x, y, strict=True))
    assert [x.shape for x, _, _ in alone] == [(16, 12, 12, 3)] * 3 + [(2, 12, 12, 3)]
    for pixels, targets, keys in alone:
        assert np.array_equal(pixels, images[keys[:, 2]])
        assert np.array_equal(targets, split.targets[keys[:, 2]])
    drawn: Counter[int] = Counter()
    for epoch_number, again, index in np.concatenate([keys for _, _, keys in alone]).tolist():
        assert (epoch_number, again) == (1, drawn[index])
        drawn[index] += 1
    assert max(drawn.values()) > 2
    assert not np.array_equal(alone[0][2][:, 2], epoch(2, 0)[0][2][:, 2])


def test_every_image_comes_once_an_epoch_and_a_last_single_one_joins_its_neighbours():
    images = np.arange(33, dtype=np.uint8).reshape(33, 1, 1, 1).repeat(4, axis=1).repeat(4, axis=2)
    sampler = build_sampler("instance", np.arange(33), 16, 0)
    batches = loader.train_loader(Split(images, np.arange(33)), sampler, 0, pin_memory=False)
    seen = [(x[:, 0, 0, 0].tolist(), y.tolist()) for x, y, _ in batches]
    assert [len(y) for _, y in seen] == [16, 17]
    assert len(batches) == 2
    assert all(x == y for x, y in seen)
    assert sorted(label for _, y in seen for label in y) == list(range(33))


def test_an_image_drawn_again_is_augmented_anew():
    images = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    split = Split(images, np.array([0] * 7 + [1]))  # class 1 has one image, which balance draws about four times
    batches = loader.train_loader(split, build_sampler("class_balanced", split.targets, 8, 0), 0, False)
    ((stored, targets, keys),) = loader.begin_epoch(batches, 1, 1)
    seen = Augmentation("crop-flip", 10, 0)(stored, keys)
    rare = seen[targets == 1].flatten(1)
    assert len(rare) > 2
    assert len(rare.unique(dim=0)) == len(rare)


def test_evaluation_sees_the_centre_in_order():
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    batches = list(loader.ordered_loader(Split(images, np.arange(5)), 4, 2, 0, pin_memory=False))
    assert torch.equal(torch.cat([x for x, _ in batches]), torch.from_numpy(images[:, 2:6, 2:6]))
    assert torch.cat([y for _, y in batches]).tolist() == list(range(5))


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


def test_learning_rate():
    rates = [learning_rate(step, 100, 10, 1.0, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == max(rates) == 1.0
    assert rates[55] == pytest.approx(0.55)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert 0.1 < rates[-1] < 0.101
    assert learning_rate(0, 10, 0, 1.0, 0.0) == 1.0


def test_learning_rate_in_steps():
    rates = [learning_rate(step, 100, 10, 1.0, 0.1, [60, 80], 0.5) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10:] == [1.0] * 50 + [0.5] * 20 + [0.25] * 20


def test_the_published_staircase_of_ldam():
    config = Config(schedule="step", step_epochs="160,180", step_factor=0.01, epochs=200, lr=0.1, warmup_epochs=5)
    after = {epoch: optimizer.rate_of_step(epoch * 7, 7, config) for epoch in (5, 159, 160, 179, 180, 199)}
    assert list(after.values()) == pytest.approx([0.1, 0.1, 1e-3, 1e-3, 1e-5, 1e-5])
    assert optimizer.rate_of_step(160 * 7 - 1, 7, config) == 0.1


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


def test_what_is_mixed_in_is_augmented_by_draws_of_its_own(monkeypatch):
    config = Config(mix="concutmix:prob=1", contrast="none", augment="crop-flip", workers=0, device="cpu", epochs=2)
    job, given = Job(config), []
    mixed = type(job.mix).__call__

    def noted(mix, images, targets, generator, partner, *rest):
        given.append((images, *partner))
        return mixed(mix, images, targets, generator, partner, *rest)

    monkeypatch.setattr(type(job.mix), "__call__", noted)
    batch, partner = next(job.begin_epoch(1))
    job.step(batch, partner, torch.Generator().manual_seed(0), 0.01)
    ((images, others, labels),) = given
    assert torch.equal(images, Augmentation("crop-flip", job.image_size, config.seed)(batch[0], batch[2]))
    assert torch.equal(labels, partner[1])
    expected = Augmentation("crop-flip", job.image_size, derive("partner", config.seed))(partner[0], partner[2])
    assert torch.equal(others, expected)
    unlike = Augmentation("crop-flip", job.image_size, config.seed)(partner[0], partner[2])
    assert not torch.equal(others, unlike)
