"""Precision, recall and F1 are scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report

from car_ext.metrics.class_report import ClassReport
from car_ext.metrics.counts import Counts, confusion_counts
from car_ext.metrics.summary import summarize

NAMES = list("abcde")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
@settings(deadline=None)
def test_the_report_is_scikit_learns(pairs):
    predicted, true = np.array(pairs).T
    counts = Counts.of(confusion_counts(predicted, true, 5), [9] * 5)
    report, summary = ClassReport.of(counts), summarize(counts.confusion, [9] * 5, NAMES)
    occurring = sorted({*predicted.tolist(), *true.tolist()})
    theirs = classification_report(true, predicted, labels=occurring, output_dict=True, zero_division=0)
    for label in range(5):
        ours = summary["per_class"][NAMES[label]]
        values = [ours[name] or 0.0 for name in ("precision", "recall", "f1")]
        expected = theirs.get(str(label), {"precision": 0.0, "recall": 0.0, "f1-score": 0.0})
        assert values == pytest.approx([expected[name] for name in ("precision", "recall", "f1-score")])
        assert (ours["precision"] is None) == (label not in predicted)
        assert (ours["recall"] is None) == (label not in true)
        assert (ours["f1"] is None) == (label not in occurring)
    for kind in ("macro", "weighted"):
        for ours, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert getattr(report, kind)(ours) == pytest.approx(theirs[f"{kind} avg"][name])
    assert report.weighted("recall") == pytest.approx(summary["overall_accuracy"])


def test_without_images_nothing_is_defined():
    report = ClassReport(*np.zeros((3, 2), np.int64))
    assert {report.macro("f1"), report.weighted("precision")} == {None}
