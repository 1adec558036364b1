"""A score is one line: its name and its formula; every table, report and gate takes it from there."""

import sys

import numpy as np
import pytest

from car_ext.errors import InputError
from car_ext.evaluation.losses import differences
from car_ext.evaluation.rules import parse_gate
from car_ext.metrics import Score, group_accuracies, register, summarize, vocabulary
from car_ext.studies.table import markdown, table

CONFUSION = np.array([[9, 1, 4], [1, 8, 0], [0, 1, 1]])
COUNTS, NAMES = [200, 50, 10], ["cat", "dog", "owl"]
SPREAD = Score(
    "accuracy_range",
    "best class less worst class",
    lambda counts: float(counts.rising[-1] - counts.rising[0]) if counts.rising.size else None,
    short="range",
    compact=True,
    more_is_better=False,
    gate="range",
    epoch="range",
)


@pytest.fixture
def only_ours(monkeypatch):
    monkeypatch.setattr(vocabulary, "_scores", list(vocabulary.scores()))


def test_a_score_from_outside_is_everywhere(only_ours):
    register(SPREAD)
    summary = summarize(CONFUSION, COUNTS, NAMES)
    assert summary["accuracy_range"] == pytest.approx(0.9 - 0.2)
    assert group_accuracies(CONFUSION, COUNTS)["accuracy_range"] == summary["accuracy_range"], "a line of an epoch"
    rows = table({"ce": [summary]})
    assert rows[0]["accuracy_range"] == summary["accuracy_range"]
    assert "| range |" in markdown(rows)
    better = summarize(CONFUSION + np.diag([0, 0, 3]), COUNTS, NAMES)
    assert parse_gate("range=0.1") == {"range": 0.1}
    assert differences(summary, better)["accuracy_range"] < -0.1


def test_a_score_of_an_installed_package_is_found(only_ours, monkeypatch, tmp_path):
    (tmp_path / "spread.py").write_text(
        "from car_ext.metrics import Score\n"
        "SPREAD = Score('spread', 'spread of the classes', lambda counts: float(counts.accuracies.std()))\n"
    )
    (tmp_path / "spread-1.dist-info").mkdir()
    (tmp_path / "spread-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: spread\nVersion: 1\n")
    (tmp_path / "spread-1.dist-info" / "entry_points.txt").write_text("[car_ext.metrics]\nspread = spread:SPREAD\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(vocabulary, "_found_outside", False)
    try:
        assert summarize(CONFUSION, COUNTS, NAMES)["spread"] == pytest.approx(np.std([0.9, 0.8, 0.2]))
    finally:
        sys.modules.pop("spread", None)


@pytest.mark.parametrize("taken", [{"key": "few"}, {"key": "new", "gate": "worst"}, {"key": "new", "epoch": "overall"}])
def test_names_are_given_once(only_ours, taken):
    with pytest.raises(InputError, match="taken"):
        register(Score(name="another", **taken))


def test_a_count_of_many_classes_has_all_its_digits():
    assert vocabulary.AT_ZERO.text(99_993) == vocabulary.AT_ZERO.text(99_993.0) == "99993"
    assert SPREAD.text(None) == vocabulary.AT_ZERO.text(None)
    (brier,) = (score for score in vocabulary.scores() if score.key == "scores.brier")
    assert brier.text(0.123456) == "0.1235"
