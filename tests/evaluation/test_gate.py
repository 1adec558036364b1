"""What an exported model may lose."""

import numpy as np
import pytest

from car_ext.errors import InputError
from car_ext.evaluation.gate import broken, differences, parse_gate
from car_ext.metrics.summary import summarize

COUNTS = [200, 50, 3]  # many, medium, few


def summary(*correct, images=100):
    """Of three classes, the wrong ones taken for the next."""
    confusion = np.diag(correct)
    for label, right in enumerate(correct):
        confusion[(label + 1) % 3, label] = images - right
    return summarize(confusion, COUNTS, ["cat", "dog", "eel"])


def test_differences():
    found = differences(summary(90, 80, 40), summary(91, 78, 35))
    assert found["per_class_accuracy"] == pytest.approx({"cat": 0.01, "dog": -0.02, "eel": -0.05})
    assert found["worst_class_accuracy"] == pytest.approx(-0.05)
    assert found["overall_accuracy"] == pytest.approx(-0.02)
    assert (found["many"], found["few"]) == (pytest.approx(0.01), pytest.approx(-0.05))


def test_a_class_without_images_has_no_difference():
    without = summarize(np.diag([90, 80, 0]), COUNTS, ["cat", "dog", "eel"])
    found = differences(without, without)
    assert (found["per_class_accuracy"]["eel"], found["few"]) == (None, None)
    assert broken({"few": 0.0, "class": 0.0}, found) == []


def test_a_gate_names_what_fell_and_by_how_much():
    found = differences(summary(90, 80, 40), summary(91, 78, 35))
    (sentence,) = broken(parse_gate("worst=0.02, overall=0.02"), found)
    assert sentence == (
        "worst class accuracy fell by 0.0500, more than 0.02; classes that fell: 'eel' by 0.0500, 'dog' by 0.0200"
    )
    assert broken({"worst": 0.05, "overall": 0.02, "class": 0.05}, found) == []  # as much as allowed
    assert "accuracy of a class fell by 0.0500" in broken({"class": 0.049}, found)[0]


def test_another_class_may_become_the_worst():
    found = differences(summary(90, 45, 40), summary(90, 30, 60))
    (sentence,) = broken({"worst": 0.02}, found)
    assert "fell by 0.1000" in sentence
    assert sentence.endswith("'dog' by 0.1500")


def test_many_classes_are_counted():
    names = [f"c{label}" for label in range(15)]
    before, after = (summarize(np.diag([n] * 15) + np.eye(15, k=1, dtype=int), [9] * 15, names) for n in (9, 4))
    (sentence,) = broken({"class": 0.0}, differences(before, after))
    assert sentence.count(" by 0.") == 11
    assert sentence.endswith("and 4 more")


@pytest.mark.parametrize("text", ["", "worse=0.1", "worst", "worst=much", "worst=-0.1", "worst=2", "few=0,few=0"])
def test_bad_gates(text):
    with pytest.raises(InputError, match="--gate"):
        parse_gate(text)
