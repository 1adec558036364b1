"""What hears of a run: in which order, of what, and what happens where it raises."""

import dataclasses
import json

import pytest

from car_ext.config.config import Config
from car_ext.run import checkpoint
from car_ext.training.callbacks import Callback, Callbacks
from car_ext.training.train import train


class Recorder(Callback):
    """Notes what it hears, and raises where it is told to."""

    def __init__(self, raises=None):
        self.heard, self.steps, self.raises = [], [], raises

    def on_start(self, config, run_dir):
        self._hear("start", run_dir.name)

    def after_step(self, step, values):
        self.steps.append((step, values))
        self._hear("step")

    def after_epoch(self, row):
        self._hear("epoch", row["epoch"])

    def on_end(self, summary):
        self._hear("end", summary["epochs"])

    def close(self):
        self._hear("close")

    def _hear(self, *what):
        self.heard.append(what)
        if what[0] == self.raises:
            raise RuntimeError(what[0])


def test_a_callback_hears_of_every_step_and_epoch(tmp_path):
    config, recorder = Config(epochs=2, batch_size=100, regularizer="car", out=str(tmp_path / "run")), Recorder()
    train(config, progress=False, callbacks=[recorder])
    assert [what for what in recorder.heard if what != ("step",)] == [
        ("start", "run"),
        ("epoch", 1),
        ("epoch", 2),
        ("end", 2),
        ("close",),
    ]
    assert [step for step, _ in recorder.steps] == [1, 2, 3, 4, 5, 6]  # 276 images: 100, 100 and 76
    assert recorder.steps[0][1].keys() == {"loss", "base_loss", "sigma", "train_accuracy", "lr"}
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        of_epoch = [values for _, values in recorder.steps[3 * number : 3 * number + 3]]
        mean = sum(images * of["loss"] for images, of in zip((100, 100, 76), of_epoch, strict=True)) / 276
        assert mean == pytest.approx(row["loss"], rel=1e-5)
        assert of_epoch[-1]["lr"] == row["lr"]


def test_who_listens_changes_no_bit(tmp_path):
    summaries = [
        train(Config(epochs=2, out=str(tmp_path / name)), progress=False, callbacks=callbacks)
        for name, callbacks in (("heard", [Recorder()]), ("alone", []))
    ]
    assert summaries[0]["scores"] == summaries[1]["scores"]


@pytest.mark.parametrize(
    ("raises", "epoch", "lines"), [("start", None, 0), ("step", None, 0), ("epoch", 1, 1), ("end", 2, 2)]
)
def test_what_raises_ends_the_run_and_leaves_it_whole(raises, epoch, lines, tmp_path):
    config, before, recorder = Config(epochs=2, out=str(tmp_path / "run")), Recorder(), Recorder(raises)
    with pytest.raises(RuntimeError, match=raises):
        train(config, progress=False, callbacks=[before, recorder, Recorder()])
    assert before.heard[-1] == recorder.heard[-1] == ("close",)
    found = checkpoint.load_latest(config.run_dir)
    assert (found and found[0]) == epoch
    assert len((config.run_dir / "metrics.jsonl").read_text().splitlines()) == lines
    assert (config.run_dir / "summary.json").exists() == (raises == "end")
    after = Recorder()
    again = train(dataclasses.replace(config, resume=True), progress=False, callbacks=[after])
    whole = train(dataclasses.replace(config, out=str(tmp_path / "whole")), progress=False)
    assert again["scores"] == whole["scores"]
    assert after.heard == [] if raises == "end" else [what for what in after.heard if what[0] == "epoch"]


def test_all_are_closed_whatever_one_raises():
    recorders = [Recorder(), Recorder("close"), Recorder()]
    together = Callbacks(recorders)
    for recorder in recorders:
        recorder._hear("begun")
    together._begun = [*recorders]
    with pytest.raises(RuntimeError, match="close"):
        together.close()
    assert [recorder.heard[-1] for recorder in recorders] == [("close",)] * 3


def test_steps_are_read_for_those_who_want_them_only():
    assert Callbacks([Callback(), Recorder()]).hear_steps
    assert not Callbacks([Callback()]).hear_steps
