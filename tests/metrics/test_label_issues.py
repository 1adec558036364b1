"""Labels that were made wrong are found again, by what a model that does not know them takes the images for."""

import csv
import dataclasses
import sys

import numpy as np
import pytest

from car_ext.errors import InputError
from car_ext.metrics.label_issues import LabelIssue, LabelIssues
from car_ext.metrics.predictions import Predictions
from car_ext.metrics.predictions_file import PredictionsFile

NAMES = ("Ente", "d,og", "owl", "rat")  # of the last there is no image
WRONG = [3, 50, 77, 120, 180, 190]


@pytest.fixture
def cleanlab():
    pytest.importorskip("cleanlab", reason="needs cleanlab (the extra labels)")


pytestmark = pytest.mark.filterwarnings("ignore:May not flag all label issues in class. 3")


@pytest.fixture
def made():
    """200 images of three classes with six wrong labels, as several files of predictions."""
    random = np.random.default_rng(0)
    truth = np.arange(200) % 3
    labels = truth.copy()
    labels[WRONG] = (truth[WRONG] + 1) % 3
    files = tuple(f"test/{number:03}.png" for number in range(200))

    def made(path, **changes):
        logits = random.normal(size=(200, 4))
        logits[np.arange(200), truth] += 5
        predictions = Predictions.of(logits, labels, keep_logits=True)
        predictions = dataclasses.replace(predictions, files=files, **changes)
        PredictionsFile(NAMES, {"test": predictions}).write(path)
        return path

    return made


def test_wrong_labels_are_found(made, tmp_path, cleanlab):
    images, found = LabelIssues.find([made(tmp_path / "a.parquet")])
    assert images == 200
    assert {issue.file for issue in found} <= {f"test/{number:03}.png" for number in WRONG}
    assert len(found) >= 4
    for issue in found:
        truth = int(issue.file[5:8]) % 3
        assert (issue.given, issue.suggested) == (NAMES[(truth + 1) % 3], NAMES[truth])
        assert issue.given_probability < issue.suggested_probability <= 1
    doubts = [issue.given_probability for issue in found]
    assert doubts == sorted(doubts)


def test_several_files_give_the_mean_of_an_image(made, tmp_path, cleanlab):
    paths = [made(tmp_path / f"{name}.parquet") for name in "abc"]
    alone = [{issue.file: issue for issue in LabelIssues.find([path]).found} for path in paths]
    images, found = LabelIssues.find(paths)
    assert images == 200
    first = found[0]
    assert first.given_probability == pytest.approx(np.mean([held[first.file].given_probability for held in alone]))


def test_too_many_classes_are_refused(made, tmp_path, cleanlab, monkeypatch):
    monkeypatch.setattr("car_ext.metrics.label_issues.DENSEST", 3)
    with pytest.raises(InputError, match=r"a\.parquet is of 4 classes, .* over at most 3"):
        LabelIssues.find([made(tmp_path / "a.parquet")])


def test_the_table(tmp_path):
    issue = LabelIssue('a,"b".png', "val", "d,og", "Ente", 0.125, 0.5)
    LabelIssues(7, [issue]).write_csv(tmp_path / "issues.csv")
    with (tmp_path / "issues.csv").open(encoding="utf-8", newline="") as file:
        heading, row = csv.reader(file)
    assert heading == ["file", "split", "given", "suggested", "given_probability", "suggested_probability"]
    assert row == ['a,"b".png', "val", "d,og", "Ente", "0.125", "0.5"]


def test_bad_input_is_named_with_the_fix(made, tmp_path, monkeypatch, cleanlab):
    whole = made(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"b\.parquet holds no logits; .*--logits"):
        LabelIssues.find([whole, made(tmp_path / "b.parquet", logits=None)])
    labels = PredictionsFile.read(whole).splits["test"].targets
    labels[7] = 2
    with pytest.raises(InputError, match=r"'test/007\.png' has one label in one file"):
        LabelIssues.find([whole, made(tmp_path / "b.parquet", targets=labels)])
    _, splits = PredictionsFile.read(whole)
    PredictionsFile(NAMES[::-1], splits).write(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="have different classes"):
        LabelIssues.find([whole, tmp_path / "b.parquet"])
    with pytest.raises(InputError, match="there is no file of predictions"):
        LabelIssues.find([tmp_path / "none.parquet"])
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(InputError, match=r"pip install 'car-ext\[labels\]'"):
        LabelIssues.find([whole])
