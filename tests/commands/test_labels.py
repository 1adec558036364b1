"""From a run, or from what an evaluation wrote, to the list and the page of labels that are likely wrong."""

import csv
import shutil
import sys

import numpy as np
import pytest
from pages import Parsed, assert_self_contained
from PIL import Image

from car_ext.commands import program
from car_ext.config.config import Config
from car_ext.datasets.named import named_images
from car_ext.training.train import train

pytest.importorskip("cleanlab", reason="needs cleanlab (the extra labels)")

EVERY = ("--filter-by", "predicted_neq_given")
PICTURE = '<img src="data:image/png'


@pytest.fixture
def photos(tmp_path):
    """Two classes, dark and bright, with one bright test image among the dark ones."""
    random = np.random.default_rng(0)
    for split, images in (("train", 24), ("test", 12)):
        for number, name in enumerate(["<b>dark", "bright"]):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(images):
                bright = number or (split == "test" and index == 5)
                pixels = random.integers(0, 60, (12, 12, 3), dtype=np.uint8) + np.uint8(180 if bright else 0)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "photos"


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the program in this process; returns its exit code and what it printed."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["car-ext", *map(str, arguments)])
        return program.car_ext_command(), *capsys.readouterr()

    return call


def test_a_wrong_label_is_found_and_shown(photos, tmp_path, call):
    run = tmp_path / "run"
    train(Config(data=str(photos), epochs=30, batch_size=8, out=str(run), logits=True), progress=False)
    code, out, _ = call("labels", run, *EVERY)
    assert code == 0
    assert "1 of 24 labels are likely wrong" in out
    with (run / "label_issues.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["file"], row["given"], row["suggested"]) == ("test/<b>dark/5.png", "<b>dark", "bright")
    page = Parsed((run / "label_issues.html").read_text(encoding="utf-8"))
    assert_self_contained(page)
    assert "1 of 24 labels" in page.text
    assert "<b>dark \N{RIGHTWARDS ARROW} bright?" in page.text
    assert (run / "label_issues.html").read_text(encoding="utf-8").count(PICTURE) == 1

    # The same of a file of predictions, without the training images, and without the pictures.
    shutil.rmtree(photos / "train")
    file = tmp_path / "p.parquet"
    assert call("evaluate", run, "--data", photos, "--predictions", file, "--logits", "--no-report")[0] == 0
    assert call("labels", file, *EVERY, "--data", photos, "--out", tmp_path / "found")[0] == 0
    assert (tmp_path / "found" / "label_issues.csv").read_bytes() == (run / "label_issues.csv").read_bytes()
    assert PICTURE in (tmp_path / "found" / "label_issues.html").read_text(encoding="utf-8")
    assert call("labels", file, *EVERY)[0] == 0
    text = (tmp_path / "label_issues.html").read_text(encoding="utf-8")
    assert PICTURE not in text
    assert "1 of the most doubtful pictures are not shown" in text
    photos.rename(tmp_path / "moved")
    code, _, told = call("labels", run, *EVERY)
    assert code == 0
    assert "no pictures are shown, give --data" in told
    code, _, told = call("labels", run, "--data", photos)
    assert (code, "photos" in told) == (2, True)


def test_a_run_without_logits_is_refused(tmp_path, call):
    train(Config(epochs=1, out=str(tmp_path / "run")), progress=False)
    code, _, told = call("labels", tmp_path / "run")
    assert (code, "train with --logits" in told) == (2, True)
    assert not (tmp_path / "run" / "label_issues.csv").exists()


def test_images_by_their_names():
    digits = named_images("digits", ["test/3", "train/0", "elsewhere"])
    assert {name: image.shape for name, image in digits.items()} == {"test/3": (8, 8, 1), "train/0": (8, 8, 1)}
