"""The numbers in front, by hand."""

import numpy as np
import pytest

from car_ext.metrics.findings import Findings
from car_ext.metrics.intervals import wilson_interval
from car_ext.metrics.mistakes import EXAMPLE
from car_ext.report.leads import lead
from car_ext.report.runs import Run


def made(right, images=12, name="a", found=True):
    """A run with so many right test images of each class; the others are taken for the next class."""
    classes = len(right)
    confusion = np.diag(right)
    for label, count in enumerate(right):
        confusion[(label + 1) % classes, label] += images - count
    names = [f"kind {label}" for label in range(classes)]
    summary = {
        "class_counts": {name: 1000 - 7 * label for label, name in enumerate(names)},
        "per_class_accuracy": dict(zip(names, (np.array(right) / images).tolist(), strict=True)),
    }
    bins = dict.fromkeys(("count", "confidence", "accuracy"), np.zeros(1)) | {"edges": np.array([0.0, 1.0])}
    findings = Findings(confusion, bins, np.empty(0, EXAMPLE), np.empty((0, 1, 1, 1), np.uint8))
    return Run(name, summary, findings if found else None)


def test_the_worst_class_with_its_images_and_interval():
    run = made([12, 10, 3, 4])
    zero, worst, overall = lead(run, run).numbers
    assert (zero.name, zero.text, zero.unit, zero.of) == ("classes at 0 %", "0", "of 4", "")
    low, high = wilson_interval(3, 12)
    assert worst[:3] == ("worst class", "25.0", "class kind 2, 986 training images")
    assert worst.interval == f"3 of 12 test images, 95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    run.summary["intervals"] = {"worst_class_accuracy": [0.04, 0.5]}  # of the lowest accuracy, which comes first
    assert lead(run, run).numbers[1].interval == "3 of 12 test images, 95 % interval 4.0 to 50.0 %"
    assert overall[:3] == ("overall", f"{100 * 29 / 48:.1f}", "of 48 test images")  # not in the summary: counted


def test_of_many_classes_the_worst_tenth_leads_where_the_worst_are_at_zero():
    first, run = made([0, 0, 0, 0, 0, 6, *[12] * 20], name="a"), made([0, 0, 3, *[12] * 23], name="b")
    zero, tenth, worst, _ = lead(run, first).numbers
    assert (zero.text, zero.unit, zero.of, zero.against) == ("2", "of 26", "kind 1, kind 0", "3 fewer than a")
    assert tenth[:3] == ("worst tenth", f"{100 * 3 / 36:.1f}", "mean of the worst 3 of 26 classes")
    assert tenth.against == "+8.3 points against a"
    assert worst.text == "0.0"
    assert lead(first, first).numbers[0].of == "kind 4, kind 3, kind 2 and 2 more"
    assert lead(first, run).numbers[0].against == "3 more than b"


@pytest.mark.parametrize("found", [True, False])
def test_a_class_without_test_images_is_none_at_zero(found):
    run = made([12, 12, 0], found=found)
    run.summary["per_class_accuracy"]["kind 2"] = None
    zero, worst, overall = lead(run, run).numbers
    assert (zero.text, zero.unit) == ("0", "of 2")
    assert (worst.text, bool(worst.interval)) == ("100.0", found)
    assert overall.text == (f"{100 * 24 / 36:.1f}" if found else "-")
