"""Validation images choose the epoch that is kept and when a run ends; the test images choose nothing."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.run import checkpoint
from car_ext.run.classifier import load_run
from car_ext.run.folder import RunFolder
from car_ext.training import job as jobs
from car_ext.training.data import load_data
from car_ext.training.selection import Selection
from car_ext.training.train import train

JOB = Config(epochs=4, batch_size=70, lr=0.02, min_lr=0.02, schedule="constant", augment="crop", optimizer="sgd")


@pytest.fixture
def validated(monkeypatch):
    """Every other test image becomes a validation image; counts how often each part is scored."""
    passes = {"val": 0, "test": 0, "train": 0}

    def load(config):
        data, size, augment = load_data(config)
        val, test = (data.test.take(np.arange(start, len(data.test), 2)) for start in (0, 1))
        return dataclasses.replace(data, val=val, test=test), size, augment

    def counted(self, part, report):
        passes[part] += 1
        return logits(self, part, report)

    logits = jobs.Job.logits
    monkeypatch.setattr(jobs, "load_data", load)
    monkeypatch.setattr(jobs.Job, "logits", counted)
    return passes


def rows(*values):
    return [{"epoch": number, "val_balanced": value} for number, value in enumerate(values, 1)]


def test_the_first_of_the_best_epochs_is_kept():
    selection = Selection(Config(patience=2), True)
    assert [selection.add(row) for row in rows(0.1, 0.3, 0.3)] == [True, True, False]
    assert (selection.best, selection.ended) == (2, False)
    selection.add({"epoch": 4, "val_balanced": 0.2})
    assert (selection.best, selection.ended) == (2, True)
    again = Selection(Config(patience=2), True, rows(0.1, 0.3, 0.3, 0.2))
    assert (again.best, again.ended) == (2, True)
    assert Selection(Config(keep="last"), True, rows(0.3, 0.1)).best is None
    assert Selection(Config(), False, [{"epoch": 1, "test_balanced": 0.1}]).best is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patience": 3}, r"--patience 3 needs validation images: .*--val-share"),
        ({"keep": "best"}, "--keep best needs validation images"),
        ({"keep_by": "balance"}, r"--keep-by balance is no score of an epoch; did you mean balanced\?"),
    ],
)
def test_a_choice_without_validation_images_is_refused(tmp_path, options, words):
    config = Config(out=str(tmp_path / "run"), **options)
    with pytest.raises(InputError, match=words):
        train(config, progress=False)
    assert not config.run_dir.exists()


def test_a_score_without_a_value_chooses_nothing():
    with pytest.raises(InputError, match="--keep-by few has no value"):
        Selection(Config(keep_by="few"), True, [{"epoch": 1, "val_few": None}])


def test_the_best_epoch_is_kept_and_tested_once(validated, tmp_path):
    config = dataclasses.replace(JOB, out=str(tmp_path / "run"), patience=2, epochs=12, lr=0.3, min_lr=0.0)
    summary = train(config, progress=False)
    lines = RunFolder(config.run_dir).read_metrics()
    found = [line["val_balanced"] for line in lines]
    best = found.index(max(found)) + 1
    assert summary["kept_epoch"] == best < len(lines) == best + 2
    assert not [key for key in lines[0] if key.startswith("test_")]
    assert summary["validation"]["balanced_accuracy"] == max(found)
    assert validated == {"val": len(lines) + 1, "test": 1, "train": 1}
    # The classifier of the run is the kept one.
    model, state = load_run(config.run_dir)
    data, _, _ = jobs.load_data(config)
    with torch.no_grad():
        correct = model(torch.from_numpy(data.test.images)).argmax(1).numpy() == data.test.targets
    assert summary["overall_accuracy"] == pytest.approx(correct.mean())
    assert state["class_names"] == list(data.class_names)
    last = checkpoint.load_latest(config.run_dir)
    assert last[0] == len(lines)
    assert not torch.equal(last[1]["model.head.weight"], model.head.weight)
    assert json.loads((config.run_dir / "summary.json").read_text()) == summary


def test_the_last_epoch_is_not_scored_twice(validated, tmp_path):
    config = dataclasses.replace(JOB, out=str(tmp_path / "run"), keep="last")
    summary = train(config, progress=False)
    assert validated == {"val": 4, "test": 1, "train": 1}
    assert (summary["kept_epoch"], list(config.run_dir.glob("kept-*"))) == (4, [])
    assert summary["validation"]["balanced_accuracy"] == RunFolder(config.run_dir).read_metrics()[-1]["val_balanced"]


def test_without_validation_images_the_last_scores_are_the_summary(monkeypatch, tmp_path):
    scored, logits = [], jobs.Job.logits

    def noted(self, part, report):
        scored.append(part)
        return logits(self, part, report)

    monkeypatch.setattr(jobs.Job, "logits", noted)
    config = dataclasses.replace(JOB, out=str(tmp_path / "run"))
    summary = train(config, progress=False)
    assert scored == ["test"] * 4 + ["train"]
    assert RunFolder(config.run_dir).read_metrics()[-1]["test_balanced"] == summary["balanced_accuracy"]
    assert not {"validation", "kept_epoch"} & summary.keys()


class Killed(Exception):
    pass


@pytest.mark.parametrize("where", ["add_metrics", "write", "keep_only", "score_epoch"])
def test_an_interrupted_run_keeps_the_same_weights(validated, tmp_path, monkeypatch, where):
    options = {"ema": 0.9, "accumulate": 2} if where in ("write", "add_metrics") else {}
    config = dataclasses.replace(JOB, out=str(tmp_path / "whole"), **options)
    whole = train(config, progress=False)
    config = dataclasses.replace(config, out=str(tmp_path / "run"), resume=True)
    owner = {"add_metrics": RunFolder, "score_epoch": jobs.Job}.get(where, checkpoint)
    seen, function = [], getattr(owner, where)

    def dies(*arguments):
        seen.append(arguments)
        if len(seen) in (3, 5):
            raise Killed
        return function(*arguments)

    monkeypatch.setattr(owner, where, dies)
    for _ in range(2):
        with pytest.raises(Killed):
            train(config, progress=False)
    again = train(config, progress=False)
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    kept = [checkpoint.load_latest(tmp_path / name, checkpoint.KEPT) for name in ("whole", "run")]
    assert kept[0][0] == kept[1][0] == whole["kept_epoch"]
    assert all(torch.equal(tensor, kept[1][1][name]) for name, tensor in kept[0][1].items())


def test_lost_weights_are_missed(validated, tmp_path):
    config = dataclasses.replace(JOB, out=str(tmp_path / "run"), keep_by="worst", lr=1e-6, min_lr=0.0)
    train(config, progress=False)  # nothing is learnt, so the first epoch is kept
    (config.run_dir / "kept-000001").rename(tmp_path / "elsewhere")
    (config.run_dir / "summary.json").unlink()
    with pytest.raises(InputError, match=r"lost the weights of its best epoch, 1; bring back kept-000001"):
        train(dataclasses.replace(config, resume=True), progress=False)
