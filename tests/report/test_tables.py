"""The tables of a report, cell by cell."""

import numpy as np
import pytest
from pages import HOSTILE
from sklearn.metrics import precision_recall_fscore_support

from car_ext.metrics.counts import confusion_counts
from car_ext.metrics.findings import Findings
from car_ext.metrics.mistakes import EXAMPLE
from car_ext.metrics.summary import summarize
from car_ext.report.runs import Run
from car_ext.report.tables import calibration, classes, gate, scores, training

NAMES = ["common", "usual", "rare"]
COUNTS = [500, 90, 3]
TARGETS = np.repeat([0, 1, 2], [6, 5, 4])
PREDICTED = np.array([0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 0])  # nothing is taken for the rare class


def made(name="a", predicted=PREDICTED, **more) -> Run:
    confusion = confusion_counts(predicted, TARGETS, 3)
    bins = dict.fromkeys(("count", "confidence", "accuracy"), np.zeros(1)) | {"edges": np.array([0.0, 1.0])}
    findings = Findings(confusion, bins, np.empty(0, EXAMPLE), np.empty((0, 1, 1, 1), np.uint8))
    return Run(name, summarize(confusion, COUNTS, NAMES) | more, findings)


def column(table, heading) -> list[str]:
    at = table.columns.index(heading)
    return [cell if isinstance(cell := row[at], str) else cell.text for row in table.rows]


def test_precision_and_f1_are_those_of_scikit_learn():
    table = classes.table([made()])
    expected = precision_recall_fscore_support(TARGETS, PREDICTED, zero_division=np.nan)
    for heading, values in zip(("precision, %", "accuracy, %"), expected, strict=False):
        assert column(table, heading) == ["-" if np.isnan(value) else f"{100 * value:.1f}" for value in values]
    assert column(table, "F1, %") == [f"{100 * value:.1f}" for value in expected[2]]
    assert "margin (LoMa)" not in table.columns
    with_margins = classes.table([made(scores={"loma": {"common": 1.5, "usual": 0.25, "rare": None}})])
    assert column(with_margins, "margin (LoMa)") == ["1.500", "0.250", "-"]


def test_a_table_that_is_too_long_has_the_worst_classes(monkeypatch):
    monkeypatch.setattr(classes, "LONGEST", 2)
    table = classes.table([made()])
    assert column(table, "class") == ["usual", "rare"]
    assert table.caption == (
        "The 2 of 3 classes with the lowest accuracy, most training images first; summary.json has all"
    )
    assert "accuracy of a, most" in classes.table([made(), made("b", TARGETS)]).caption
    monkeypatch.setattr(classes, "LONGEST", 3)
    assert column(classes.table([made()]), "class") == NAMES


def test_a_moving_average_without_its_whole_says_why():
    held = {"sigma": None, "full_sigma": None, "distance": None, "note": "not computed: too many"}
    table = training.averages([made(moving_average=held), made("b", moving_average=None)])
    assert table.caption.endswith("over all training images; not computed: too many")
    assert table.rows == [["a", "-", "-", "-"]]


def test_several_runs_have_their_own_columns():
    bare = Run("bare", made().summary)
    table = classes.table([made("a"), made("b", TARGETS), bare])
    assert column(table, "b: precision, %") == ["100.0"] * 3
    assert column(table, "b: accuracy, %") == ["100.0"] * 3
    assert "bare: precision, %" not in table.columns
    assert "95 % interval" not in table.columns


def test_validation_scores_stand_apart():
    validation = summarize(confusion_counts(TARGETS, TARGETS, 3), COUNTS, NAMES) | {"worst_class": HOSTILE[5]}
    table = scores.table([made("a"), made("b", validation=validation)])
    assert table.columns[2:] == ["a", "b", "b, validation"]
    row = next(row for row in table.rows if row[0] == "overall accuracy, %")
    assert [cell.text for cell in row[2:]] == ["60.0", "60.0", "100.0"]
    assert not any(cell.best or cell.note.strip("+0.") for cell in row[2:])
    named = next(row for row in table.rows if row[0] == "which class that is")
    assert named[2:4] == ["rare", "rare"]
    assert "back\N{REPLACEMENT CHARACTER}wards" in named[4]
    assert "validation" not in scores.table([made("a")]).caption


@pytest.mark.parametrize("passed", [True, False])
def test_the_gate_says_what_failed(passed):
    assert gate.verdict(made()) is None
    checks = [
        {"check": "worst", "value": 0.25, "limit": 0.02, "p_value": 0.5, "passed": passed, "sentence": "It fell."},
        {"check": "overall", "value": -0.0, "limit": 0.2, "p_value": None, "passed": True, "sentence": ""},
    ]
    verdict = gate.verdict(made(gate=checks))
    assert (verdict.passed, verdict.sentences) == (passed, ["It fell."])
    (name, said, *numbers), second = verdict.table.rows
    assert (name, said.text, numbers) == ("worst", "passed" if passed else "failed", ["0.25", "0.02", "0.5"])
    assert second[2:] == ["0", "0.2", "-"]


def test_conformal_sets_least_covered_first():
    assert calibration.conformal(made()) is None
    per_class = {"common": {"coverage": 0.95, "size": 1.5}, "usual": {"coverage": 0.5, "size": 3.25}, "rare": None}
    sets = {"alpha": 0.1, "coverage": 0.9, "mean_size": 2.0, "per_class": per_class}
    table = calibration.conformal(made(conformal=sets))
    assert table.rows == [["usual", "50.0", "3.25"], ["common", "95.0", "1.50"]]
    assert "a coverage of 90.0 %; over all test images 90.0 %, 2.00 classes a set" in table.caption


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (None, None),
        (1.5, "1.5"),
        ({"all": 1.234}, "1.23"),
        ({"many": 1.25, "few": 2.0}, "1.25 (many), 2 (few)"),
    ],
)
def test_the_temperature_that_is_built_in(held, said):
    assert calibration.temperature(made(temperature=held)) == said


def test_scores_at_another_prior():
    assert scores.priors([made()]) is None
    prior = {"source": HOSTILE[5], "unmeasured": 0.25, "macro_precision": 0.5, "macro_f1": None}
    table = scores.priors([made(), made("b", prior_accuracy=0.625, prior=prior)])
    ((name, source, *numbers),) = table.rows
    assert (name, numbers) == ("b", ["62.5", "50.0", "-", "25.0"])
    assert "back\N{REPLACEMENT CHARACTER}wards" in source
