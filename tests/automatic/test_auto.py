"""The whole choice, on the built-in digits and on a folder."""

import json
from pathlib import Path

import numpy as np
import pytest

import car_ext
from car_ext import InputError
from car_ext.automatic import race as races
from car_ext.automatic import representation as representations
from car_ext.automatic.auto import auto
from car_ext.automatic.store import Store
from car_ext.commands import program
from car_ext.config.config import Config
from car_ext.export import to_onnx
from car_ext.run.classifier import load_run
from car_ext.run.folder import RunFolder


@pytest.fixture
def short(monkeypatch):
    for name, number in {"SHORT": 2, "LONG": 12, "FEW_STEPS": 8, "MANY_STEPS": 60}.items():
        monkeypatch.setattr(races, name, number)


def test_the_digits_are_chosen_exported_and_scored_once(tmp_path, short, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["car-ext", "auto", "digits", "--no-pretrained", "--out", str(tmp_path / "auto")])
    assert program.main() == 0
    told = capsys.readouterr().out
    assert "promised for the test images: worst tenth" in told
    facts = json.loads((tmp_path / "auto/auto.json").read_text())
    summary = RunFolder(tmp_path / "auto").read_summary()
    assert facts["test"] == pytest.approx(summary["worst_10pct"])
    assert summary["worst_class_accuracy"] > 0.2
    assert facts["raced"][0]["name"] == facts["representation"]
    page = (tmp_path / "auto/auto.html").read_text()
    assert facts["chosen"].split(",")[0] in page
    assert [row["score"] for row in facts["tried"] if row["chosen"]]
    assert "<small>chosen</small>" in page
    assert (tmp_path / "auto/model.onnx").exists()
    # Again: it is only read, and the classifier of the folder is the one that was scored.
    assert program.main() == 0
    with pytest.raises(InputError, match="holds a choice by other options or of other images"):
        auto(Config(pretrained=None), target="balanced", out=tmp_path / "auto", progress=False)
    model, state = load_run(tmp_path / "auto")
    assert state["class_names"] == [str(digit) for digit in range(10)]
    assert model.head.weight.shape[0] == 10


def test_a_choice_goes_on_where_it_was_killed_to_the_same_bits(tmp_path, short, monkeypatch):
    config = Config(pretrained=None)
    whole = auto(config, out=tmp_path / "whole", progress=False)
    train = representations.Job.train_epoch
    epochs = 0

    def killed(self, *arguments):
        nonlocal epochs
        epochs += 1
        if epochs == 9:
            raise KeyboardInterrupt
        return train(self, *arguments)

    monkeypatch.setattr(representations.Job, "train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        auto(config, out=tmp_path / "broken", progress=False)
    assert not (tmp_path / "broken/auto.json").exists()
    resumed = auto(config, out=tmp_path / "broken", progress=False)
    assert {**resumed.facts, "seconds": 0} == {**whole.facts, "seconds": 0}
    weights = [
        next(Path(run).glob("kept-*/tensors.safetensors")).read_bytes() for run in (whole.folder, resumed.folder)
    ]
    assert weights[0] == weights[1]


def test_a_limit_of_time_is_planned_for_and_what_is_not_tried_is_named(tmp_path):
    outcome = auto(Config(pretrained=None), hours=8 / 3600, out=tmp_path / "auto", progress=False)
    assert outcome.facts["raced"]
    assert outcome.facts["seconds"] < 60
    assert to_onnx(outcome.folder).exists()


def test_what_cannot_be_measured_is_refused(tmp_path):
    from pictures import pets

    with pytest.raises(InputError, match=r"no class of .* has two images"):
        auto(Config(data=str(pets(tmp_path / "pets", each=1))), out=tmp_path / "auto", progress=False)


def test_pieces_of_other_images_or_of_odd_names_are_not_mistaken(tmp_path):
    first, second = (Store(tmp_path, {"data": name}) for name in ("one", "other"))
    made = first.piece("frozen hf-hub:timm/net 128 px", lambda: {"features": np.ones(2, np.float32)})
    again = first.piece("frozen hf-hub:timm/net 128 px", lambda: pytest.fail("made twice"))
    assert (again["features"] == made["features"]).all()
    other = second.piece("frozen hf-hub:timm/net 128 px", lambda: {"features": np.zeros(2, np.float32)})
    assert (other["features"] == 0).all()


def test_the_library_offers_it():
    assert car_ext.auto is auto
    with pytest.raises(InputError, match="--target"):
        car_ext.auto("digits", target="everything")
