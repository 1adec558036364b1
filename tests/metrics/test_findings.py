"""Mistakes, the pairs that are confused most, and the file they lie in."""

import dataclasses
import zipfile

import numpy as np
import pytest

from car_ext.errors import InputError
from car_ext.metrics import mistakes
from car_ext.metrics.counts import confusion_counts
from car_ext.metrics.findings import Findings
from car_ext.metrics.intervals import wilson_interval
from car_ext.metrics.logits import ScoreStatistics
from car_ext.metrics.mistakes import EXAMPLE, Mistakes, confused_pairs

CLASSES = 6


@pytest.fixture
def batches():
    random = np.random.default_rng(0)
    logits = random.normal(size=(400, CLASSES)) * 2 + 500  # a softmax without care would overflow
    targets = random.integers(0, CLASSES, 400)
    logits[np.arange(400), targets] += 1
    return [(logits[start : start + 70], targets[start : start + 70]) for start in range(0, 400, 70)]


@pytest.fixture
def found(batches):
    statistics, mistakes = ScoreStatistics(CLASSES), Mistakes()
    for logits, targets in batches:
        statistics.update(logits, targets)
        mistakes.update(logits, targets)
    predictions = np.concatenate([logits.argmax(axis=1) for logits, _ in batches])
    confusion = confusion_counts(predictions, np.concatenate([targets for _, targets in batches]), CLASSES)
    images = np.random.default_rng(1).integers(0, 256, (400, 9, 7, 3), dtype=np.uint8)
    files = tuple(f"test/ä/{number}.png" for number in range(400))
    return Findings.collect(confusion, statistics.reliability(), mistakes, images, files), images


def test_examples_are_the_most_confident_mistakes_of_each_pair_and_of_all(batches, found):
    held, images = found
    wrong = []
    for logits, targets in batches:
        for row, true in zip(logits, targets, strict=True):
            odds = np.exp(row - row.max())
            if row.argmax() != true:
                wrong.append((odds.max() / odds.sum(), true, row.argmax()))
            else:
                wrong.append((0, true, true))
    order = sorted((i for i in range(400) if wrong[i][0]), key=lambda i: -wrong[i][0])
    expected = set(order[: mistakes.MOST_CONFIDENT])
    for predicted, true in confused_pairs(held.confusion, mistakes.PAIRS):
        expected |= set([i for i in order if wrong[i][1:] == (true, predicted)][: mistakes.IMAGES_PER_PAIR])
    examples = held.examples
    assert examples["image"].tolist() == [i for i in order if i in expected]
    for index, true, predicted, confidence in examples.tolist():
        assert (confidence, true, predicted) == (pytest.approx(wrong[index][0]), *wrong[index][1:])
    assert (held.thumbnails == images[examples["image"]]).all()


def test_pairs_by_the_certainty_of_their_rate():
    confusion = np.array([[90, 3, 0], [10, 0, 0], [0, 3, 1]])
    # 3 of 6 is at least 18.8 %, 10 of 100 at least 5.5 %; the two threes are level, in the order of their labels.
    assert wilson_interval(3, 6)[0] == pytest.approx(0.1876, abs=1e-4)
    assert wilson_interval(10, 100)[0] == pytest.approx(0.0552, abs=1e-4)
    assert confused_pairs(confusion, 9).tolist() == [[0, 1], [2, 1], [1, 0]]
    assert confused_pairs(confusion, 1).tolist() == [[0, 1]]
    assert confused_pairs(np.array([[0, 1], [40, 60]]), 2).tolist() == [[1, 0], [0, 1]]
    assert confused_pairs(np.diag([3, 4]), 5).shape == (0, 2)
    # One image, wrong, is less than 30 of 100.
    assert confused_pairs(np.array([[0, 30], [1, 70]]), 1).tolist() == [[0, 1]]


def test_images_become_thumbnails_of_the_same_shape():
    mistakes = Mistakes()
    mistakes.update(np.eye(3)[[1, 2, 0]], np.array([0, 1, 2]))
    confusion = np.eye(3, dtype=int)[[2, 0, 1]]
    reliability = ScoreStatistics(3).reliability()
    for shape, small in ((8, 8, 1), (8, 8, 1)), ((200, 100, 3), (64, 32, 3)), ((200, 100, 1), (64, 32, 1)):
        images = np.full((3, *shape), 77, np.uint8)
        thumbnails = Findings.collect(confusion, reliability, mistakes, images).thumbnails
        assert thumbnails.shape == (3, *small)
        assert (thumbnails == 77).all()
    right = Findings.collect(np.eye(3, dtype=int), reliability, Mistakes(), images)
    assert len(right.examples) == len(right.thumbnails) == 0


def test_the_file_holds_everything_without_pickles(found, tmp_path):
    held, _ = found
    held.save(tmp_path / "findings.npz")
    first = (tmp_path / "findings.npz").read_bytes()
    held.save(tmp_path / "findings.npz")
    assert (tmp_path / "findings.npz").read_bytes() == first
    read = Findings.load(tmp_path / "findings.npz")
    assert np.array_equal(read.confusion, held.confusion)
    assert read.examples.dtype == EXAMPLE
    assert (read.examples == held.examples).all()
    assert (read.thumbnails == held.thumbnails).all()
    assert read.files == held.files == tuple(f"test/ä/{number}.png" for number in held.examples["image"])
    for key, values in held.reliability.items():
        np.testing.assert_array_equal(read.reliability[key], values)
    with zipfile.ZipFile(tmp_path / "findings.npz") as archive:
        for name in archive.namelist():
            assert b"'descr': '|O'" not in archive.read(name)


def test_many_classes_need_no_memory_of_their_square(tmp_path):
    reliability = ScoreStatistics(2).reliability()
    confusion = np.zeros((3000, 3000), np.int64)
    confusion[np.arange(3000), np.arange(3000)[::-1]] = 7
    Findings(confusion, reliability, np.empty(0, EXAMPLE), np.empty((0, 1, 1, 1), np.uint8)).save(tmp_path / "f.npz")
    assert (tmp_path / "f.npz").stat().st_size < 20_000
    assert (Findings.load(tmp_path / "f.npz").confusion == confusion).all()


def test_files_of_earlier_versions_have_no_names(found, tmp_path):
    path = tmp_path / "findings.npz"
    found[0].save(path)
    with np.load(path) as held:
        np.savez(path, **{key: held[key] for key in held if key != "files"})
    assert Findings.load(path).files == ()


def damaged(kind, content, held, path):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "pickle":
        np.savez(path, classes=np.array([object()]))
    elif kind == "other":
        np.savez(path, classes=3)
    elif kind == "labels":
        dataclasses.replace(held, examples=np.array([(0, 99, 0, 0.5)], EXAMPLE)).save(path)
    elif kind == "files":
        dataclasses.replace(held, files=held.files[1:]).save(path)
    elif kind == "cells":
        np.savez(path, **(dict(np.load(path)) | {"cells": np.array([[7], [0], [3]])}))


@pytest.mark.parametrize("kind", ["empty", "cut", "pickle", "other", "labels", "files", "cells"])
def test_damaged_files_are_refused(found, tmp_path, kind):
    held, _ = found
    path = tmp_path / "findings.npz"
    held.save(path)
    damaged(kind, path.read_bytes(), held, path)
    with pytest.raises(InputError, match=r"findings\.npz is damaged"):
        Findings.load(path)
