"""Scores where the classes are as frequent as a file says."""

import json

import numpy as np
import pytest

from car_ext.errors import InputError
from car_ext.metrics.class_prior import ClassPrior
from car_ext.metrics.counts import confusion_counts
from car_ext.metrics.summary import summarize

NAMES, COUNTS = ["cat", "dog", "Käuzchen"], [60, 30, 10]
CONFUSION = np.array([[9, 1, 3], [1, 8, 0], [0, 1, 1]])  # row = predicted; 10, 10 and 4 test images


def test_scores_by_hand():
    scores = ClassPrior.read("train", NAMES, COUNTS).scores(CONFUSION, NAMES)
    assert scores["prior_accuracy"] == pytest.approx(0.6 * 0.9 + 0.3 * 0.8 + 0.1 * 0.25)
    prior = scores["prior"]
    assert prior["shares"] == pytest.approx({"cat": 0.6, "dog": 0.3, "Käuzchen": 0.1})
    precision = 0.1 * 0.25 / (0.3 * 0.1 + 0.1 * 0.25)
    assert prior["per_class"]["Käuzchen"] == pytest.approx(
        {"precision": precision, "recall": 0.25, "f1": 2 * precision * 0.25 / (precision + 0.25)}
    )
    assert prior["unmeasured"] == 0
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_the_scores_are_those_of_test_images_in_these_shares():
    """Drawing the columns of the confusion matrix anew, in the shares of the prior, gives the same scores."""
    random, shares = np.random.default_rng(0), np.array([0.2, 0.1, 0.7])
    true = random.choice(3, 400_000, p=shares)
    edges = np.cumsum(CONFUSION / CONFUSION.sum(axis=0), axis=0).T
    predicted = (random.random(true.size)[:, None] > edges[true]).sum(axis=1)
    drawn = summarize(confusion_counts(predicted, true, 3), COUNTS, NAMES)
    scores = ClassPrior("drawn", shares).scores(CONFUSION, NAMES)
    assert scores["prior_accuracy"] == pytest.approx(drawn["overall_accuracy"], abs=3e-3)
    for key in ("macro_precision", "macro_f1"):
        assert scores["prior"][key] == pytest.approx(drawn[key], abs=3e-3)


def test_uniform_is_the_balanced_accuracy_and_classes_without_images_are_left_out():
    confusion = CONFUSION.copy()
    confusion[:, 1] = 0
    scores = ClassPrior.read("uniform", NAMES, COUNTS).scores(confusion, NAMES)
    assert scores["prior_accuracy"] == pytest.approx((0.9 + 0.25) / 2)
    assert scores["prior"]["unmeasured"] == pytest.approx(1 / 3)
    assert scores["prior"]["per_class"]["dog"]["recall"] is None
    with pytest.raises(InputError, match="none of its classes has a test image"):
        ClassPrior("p.csv", np.array([0.0, 1.0, 0.0])).scores(confusion, NAMES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "\ufeffclass,weight\ndog,1\ncat,0\n\nKa\u0308uzchen,3\n"),  # decomposed, as macOS writes it
        ("p.txt", "dog,1\ncat,0\nKäuzchen,3"),
        ("p.json", '{"dog": 1, "cat": 0, "Käuzchen": 3}'),
    ],
)
def test_files(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    prior = ClassPrior.read(str(tmp_path / name), NAMES, COUNTS)
    assert prior.shares.tolist() == [0, 0.25, 0.75]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.csv", None, "is no file, and not one of the words uniform, train"),
        ("p.csv", "cat,1\ndog,1\n", "no weight for 'Käuzchen'; give every class one"),
        ("p.csv", "cat,1\ndogg,1\nKäuzchen,1\n", "class 'dogg', .*did you mean dog"),
        ("p.csv", "cat,1\ncat,1\ndog,1\nKäuzchen,1\n", "'cat' twice"),
        ("p.json", '{"cat": 1, "cat": 2, "dog": 1, "Käuzchen": 1}', "'cat' twice"),
        ("p.csv", "cat,1\ndog,-1\nKäuzchen,1\n", "weight of 'dog' is -1; give a number from 0 on"),
        ("p.csv", "cat,1\ndog,nan\nKäuzchen,1\n", "weight of 'dog' is nan"),
        ("p.json", '{"cat": 1, "dog": Infinity, "Käuzchen": 1}', "weight of 'dog' is inf"),
        ("p.csv", "cat,1\ndog,many\nKäuzchen,1\n", "must be a number"),
        ("p.csv", "cat,0\ndog,0\nKäuzchen,0\n", "no weight above 0"),
        ("p.csv", "cat\ndog\n", "cannot be read"),
        ("p.csv", "", "no weight for 'cat', 'dog'"),
        ("p.json", "{", "cannot be read"),
        ("p.json", "[1, 2, 3]", "cannot be read"),
    ],
)
def test_bad_files_are_named_with_the_fix(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        ClassPrior.read(str(tmp_path / name), NAMES, COUNTS)
