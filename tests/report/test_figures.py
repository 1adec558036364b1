"""What the figures hold, as plot.js reads it."""

import json
import re

import numpy as np
import pytest

from car_ext.metrics.confusions import Confusions
from car_ext.metrics.findings import Findings
from car_ext.metrics.mistakes import EXAMPLE
from car_ext.metrics.summary import summarize
from car_ext.report import figures, order, page
from car_ext.report.charts import charts
from car_ext.report.plot import Axis, Border, Plot, Series, short
from car_ext.report.runs import Run

NAMES = ["common", "usual", "rare"]


def made(number=0, history=(), **more) -> Run:
    counts = dict(zip(NAMES, (300, 30, 3), strict=True))
    accuracies = dict(zip(NAMES, (0.9, 0.5, 0.1 * number), strict=True))
    confusion = np.array([[9, 5, 8], [1, 5, 2], [0, 0, 0]])
    bins = dict.fromkeys(("count", "confidence", "accuracy"), np.zeros(1)) | {"edges": np.array([0.0, 1.0])}
    findings = Findings(confusion, bins, np.empty(0, EXAMPLE), np.empty((0, 1, 1, 1), np.uint8))
    summary = {"class_counts": counts, "per_class_accuracy": accuracies} | more
    return Run(f"run {number}", summary, findings, history, number=number)


def test_validation_is_a_line_and_the_test_images_a_point_at_the_kept_epoch():
    lines = [{"epoch": epoch, "val_overall": 0.1 * epoch, "val_worst": None} for epoch in (1, 2, 3)]
    run = made(history=lines, kept_epoch=2, overall_accuracy=0.15)
    (chart,) = charts([run])
    assert [curve.text for curve in chart.curves] == ["validation, all classes"]
    assert "test images gave, once" in chart.caption
    assert "last epoch" not in chart.caption
    plot = figures.curves([run], chart)
    line, point = plot.series
    assert line.data["y"] == pytest.approx([10, 20, 30])
    assert (point.data["x"], point.data["y"]) == ([2], [15])
    assert point.tips[1][0] == "test, once, all classes"
    assert plot.borders == [Border(2, figures.look(run).colour)]


def test_without_validation_the_test_images_are_the_line():
    run = made(history=[{"epoch": 1, "test_overall": 0.5, "loss": 2.0}], kept_epoch=1)
    accuracy, loss = charts([run])
    assert "of the last epoch" in accuracy.caption
    assert "validation" not in accuracy.caption
    plot = figures.curves([run], accuracy)
    assert (len(plot.series), plot.borders) == (1, [])
    assert [curve.key for curve in loss.curves] == ["loss"]
    assert charts([made()]) == []


def test_names_in_the_scatter_stand_once_at_the_best_of_the_runs():
    plot = figures.accuracy_by_count([made(0), made(1), made(2)])
    *runs, labels = plot.series
    assert len(runs) == 3
    assert labels.data["short"] == NAMES
    assert labels.data["y"] == pytest.approx([90, 50, 20])
    assert {one.colour for one in runs} == {figures.look(made(number)).colour for number in range(3)}


def test_rows_of_a_matrix_are_true_classes():
    plot = figures.confusion_matrix(made(), np.array([2, 0, 1]))
    assert (plot.x.label, plot.y.label) == ("predicted class", "true class")
    cells = plot.item()["cells"]
    held = {*zip(cells["true"], cells["predicted"], cells["counts"], strict=True)}
    # Of places: rare is 0, common 1, usual 2. Eight rare ones are taken for common.
    assert held == {(1, 1, 9), (1, 2, 1), (2, 1, 5), (2, 2, 5), (0, 1, 8), (0, 2, 2)}
    assert cells["images"] == [10, 10, 10]
    assert cells["names"] == ["rare", "common", "usual"]


def many(classes: int, images: int, seed: int = 0) -> Run:
    """A run of many classes, in pairs that are taken for one another."""
    random = np.random.default_rng(seed)
    targets = random.permutation(np.arange(images) % classes)
    predicted = np.where(random.random(images) < 0.6, targets, np.minimum(targets ^ 1, classes - 1))
    counts, names = random.integers(1, 400, classes), [f"kind {label}" for label in range(classes)]
    confusion = Confusions.count(predicted, targets, classes)
    bins = dict.fromkeys(("count", "confidence", "accuracy"), np.zeros(1)) | {"edges": np.array([0.0, 1.0])}
    findings = Findings(confusion, bins, np.empty(0, EXAMPLE), np.empty((0, 1, 1, 1), np.uint8))
    return Run("many", summarize(confusion, counts, names), findings)


def test_of_many_classes_points_that_fall_together_are_one(monkeypatch):
    monkeypatch.setattr(figures, "SEPARATE", 300)
    run = many(500, 2000)
    (points,) = figures.accuracy_by_count([run]).series
    more = [
        int(said.group(1)) if (said := re.search(" and ([0-9]+) more$", name)) else 0 for name in points.data["name"]
    ]
    assert len(more) < 500 == len(more) + sum(more)
    spot = {(count, accuracy) for count, accuracy in zip(points.data["count"], points.data["y"], strict=True)}
    for label, (count, accuracy) in enumerate(zip(run.class_counts, 100 * run.accuracies, strict=True)):
        near = [abs(np.log(count / other)) < 0.06 and abs(accuracy - up) <= 1 for other, up in spot]
        assert any(near), label
    monkeypatch.setattr(figures, "SEPARATE", 500)
    assert len(figures.accuracy_by_count([run]).series[0].data["x"]) == 500


def test_of_many_classes_the_matrix_has_those_that_are_confused_most(monkeypatch):
    monkeypatch.setattr(order, "SHOWN", 40)
    run = many(101, 3000)
    labels = order.clustered([run.found.confusion])
    dense = np.asarray(run.found.confusion)
    pairs = sorted(range(0, 100, 2), key=lambda low: -dense[low, low + 1] - dense[low + 1, low])
    assert sorted(labels) == sorted(label for low in pairs[:20] for label in (low, low + 1))
    assert (np.abs(np.diff(labels)[::2]) == 1).all(), "classes of a pair stand together"
    cells = figures.confusion_matrix(run, labels).item()["cells"]
    held = dict(zip(zip(cells["true"], cells["predicted"], strict=True), cells["counts"], strict=True))
    expected = dense[np.ix_(labels, labels)]
    assert held == {
        (true, predicted): expected[predicted, true] for predicted, true in zip(*np.nonzero(expected), strict=True)
    }
    assert cells["images"] == dense.sum(axis=0)[labels].tolist()
    (figure,) = page._matrices([run])
    shown, wrong = (int(of.sum() - np.trace(of)) for of in (expected, dense))
    assert (
        f"Of 101 classes the 40 between which images are confused most are shown, and with them {shown:,}"
        in figure.caption
    )
    assert f"of the {wrong:,} mistakes" in figure.caption
    assert figure.describes.startswith("Confusion matrix of 101 classes")
    assert "mistakes" not in page._matrices([many(40, 400)])[0].caption


def test_numbers_are_as_short_as_a_screen_needs():
    data = {"x": np.array([1 / 3, 2.0]), "y": [1e-9, 1764547200000.0], "name": np.array(["a", "b"], object)}
    plot = Plot(Axis("", 0, 1), Axis("", 0, 1), series=[Series(data, "red")])
    assert plot.item()["series"][0]["data"] == {"x": [0.333333, 2], "y": [1e-9, 1764547200000], "name": ["a", "b"]}
    json.dumps(plot.item(), allow_nan=False)


def test_a_long_name_keeps_both_its_ends():
    assert short("twelve chars") == "twelve chars"
    assert short("golden retriever") == "golden…iever"
