import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from car_ext.errors import InputError
from car_ext.evaluation.gate import Gate
from car_ext.evaluation.outcome import Outcome
from car_ext.metrics.counts import class_accuracies, confusion_counts, worst_accuracy, worst_first
from car_ext.metrics.summary import group_accuracies, summarize, worst_confusions
from car_ext.report import Run

NAMES = ["cat", "dog", "owl", "rat"]
COUNTS = [200, 50, 10, 10]
# Row = predicted, column = true; 10 test images of each class.
CONFUSION = np.array([[9, 1, 3, 2], [1, 8, 5, 0], [0, 1, 2, 4], [0, 0, 0, 4]])
TRAIN_CONFUSION = np.array([[190, 0, 1, 2], [10, 48, 1, 0], [0, 2, 8, 0], [0, 0, 0, 8]])


def test_rows_are_predictions_and_columns_truth():
    confusion = confusion_counts(np.array([1, 1, 0]), np.array([0, 0, 2]), 3)
    assert confusion.tolist() == [[0, 0, 1], [2, 0, 0], [0, 0, 0]]
    assert confusion.dtype == np.int64


def test_summary_by_hand():
    summary = summarize(CONFUSION, COUNTS, NAMES, train_worst_class_accuracy=0.8)
    precision = [9 / 15, 8 / 14, 2 / 7, 4 / 4]
    f1 = [2 * 9 / 25, 2 * 8 / 24, 2 * 2 / 17, 2 * 4 / 14]
    errors = CONFUSION / 10 * (1 - np.eye(4))
    weights = 1 / np.sqrt(np.array(COUNTS) / 270 + 0.2)
    expected = {
        "classes_at_zero": 0,
        "worst_10pct": 0.2,
        "worst_class_accuracy": 0.2,
        "overall_accuracy": 23 / 40,
        "balanced_accuracy": 23 / 40,
        "worst_1pct": 0.2,
        "worst_5pct": 0.2,
        "smoothed_worst_10pct": (2 + 2 * 23 / 40) / 12,
        "rarest_three_accuracy": (0.4 + 0.2 + 0.8) / 3,
        "many": 0.9,
        "medium": 0.8,
        "few": 0.3,
        "harmonic_mean": 4 / (1 / 0.9 + 1 / 0.8 + 1 / 0.2 + 1 / 0.4),
        "geometric_mean": (0.9 * 0.8 * 0.2 * 0.4) ** (1 / 4),
        "macro_precision": sum(precision) / 4,
        "macro_recall": 23 / 40,
        "macro_f1": sum(f1) / 4,
        "weighted_precision": sum(precision) / 4,
        "weighted_f1": sum(f1) / 4,
        "worst_class_ratio": 0.25,
        "worst_class": "owl",
        "worst_class_images": 10,
        "worst_class_right": 2,
        "worst_class_ratio_same": None,
        "train_worst_class_accuracy": 0.8,
        "confusion_norm": np.linalg.norm(errors, 2),
        "weighted_confusion_norm": np.linalg.norm(errors * weights, 2),
        "wce": 0.8 / (10 / 270 + 0.2) ** 0.5,
        "lambda_r0": 0.2,
        "per_class_accuracy": {"cat": 0.9, "dog": 0.8, "owl": 0.2, "rat": 0.4},
        "per_class": {
            name: {"precision": pytest.approx(p), "recall": pytest.approx(r), "f1": pytest.approx(f)}
            for name, p, r, f in zip(NAMES, precision, (0.9, 0.8, 0.2, 0.4), f1, strict=True)
        },
        "class_counts": {"cat": 200, "dog": 50, "owl": 10, "rat": 10},
        "test_counts": dict.fromkeys(NAMES, 10),
    }
    assert list(summary) == list(expected)
    for key, value in expected.items():
        assert summary[key] == (pytest.approx(value) if isinstance(value, float) else value), key
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_ratios_by_hand():
    summary = summarize(CONFUSION, COUNTS, NAMES, train_confusion=TRAIN_CONFUSION)
    # Owl is worst in the test (0.2); it and rat are in training (0.8).
    assert (summary["worst_class"], summary["worst_class_ratio"]) == ("owl", pytest.approx(0.2 / 0.8))
    assert summary["train_worst_class_accuracy"] == 0.8
    # Now rat is worst in training, owl still in the test.
    worse = TRAIN_CONFUSION.copy()
    worse[:, 3] = [9, 0, 0, 1]
    summary = summarize(CONFUSION, COUNTS, NAMES, 0.5, train_confusion=worse)
    assert summary["train_worst_class_accuracy"] == pytest.approx(0.1)
    assert summary["worst_class_ratio"] == pytest.approx(0.2 / 0.1)
    assert summary["worst_class_ratio_same"] == pytest.approx(0.2 / 0.8)
    worse[:, 2] = [10, 0, 0, 0]
    assert summarize(CONFUSION, COUNTS, NAMES, train_confusion=worse)["worst_class_ratio_same"] is None
    worse[:, 2] = 0
    assert summarize(CONFUSION, COUNTS, NAMES, train_confusion=worse)["worst_class_ratio_same"] is None
    with pytest.raises(InputError, match="confusion has shape"):
        summarize(CONFUSION, COUNTS, NAMES, train_confusion=np.eye(3, dtype=int))


@pytest.mark.parametrize(("num_classes", "sizes"), [(10, (1, 1, 1)), (30, (1, 2, 3)), (101, (2, 6, 11))])
def test_the_worst_classes_by_hand(num_classes, sizes):
    correct = np.random.default_rng(0).permutation(num_classes)
    confusion = np.diag(correct)
    confusion[0] += num_classes - correct  # the rest is taken for class 0
    confusion[0, 0] = correct[0]
    confusion[1, 0] = num_classes - correct[0]
    summary = summarize(confusion, [5] * num_classes, [str(c) for c in range(num_classes)])
    for percent, size in zip((1, 5, 10), sizes, strict=True):
        # The accuracies are 0 / K, 1 / K, 2 / K, ... in some order.
        assert summary[f"worst_{percent}pct"] == pytest.approx(sum(range(size)) / size / num_classes)


@pytest.mark.parametrize("shift", [0, 1])
def test_all_wrong_and_all_right(shift):
    summary = summarize(np.roll(np.eye(3, dtype=int), shift, axis=0), [5] * 3, list("abc"))
    right = 1.0 - shift
    keys = ("overall_accuracy", "balanced_accuracy", "worst_class_accuracy", "worst_1pct", "geometric_mean", "macro_f1")
    assert {key: summary[key] for key in keys} == dict.fromkeys(keys, right)
    assert summary["harmonic_mean"] == pytest.approx(max(right, 1e-5))
    assert summary["confusion_norm"] == pytest.approx(1 - right)  # a permutation, or nothing
    assert summary["wce"] == pytest.approx((1 - right) / (1 / 3 + 0.2) ** 0.5)


def test_classes_at_zero_are_counted():
    confusion = np.array([[3, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])  # the last has no image
    summary = summarize(confusion, COUNTS, NAMES)
    assert summary["classes_at_zero"] == 2
    assert (summary["worst_class"], summary["worst_class_right"], summary["worst_class_images"]) == ("owl", 0, 2)


def test_one_image():
    summary = summarize(np.array([[0, 0], [1, 0]]), [5, 5], ["a", "b"])
    assert summary["worst_class"] == "a"
    assert (summary["geometric_mean"], summary["worst_10pct"], summary["confusion_norm"]) == (0, 0, 1)


def test_an_epoch_has_the_scores_of_the_summary():
    few = group_accuracies(CONFUSION, COUNTS)
    assert {"classes_at_zero", "worst_10pct", "worst_class_accuracy", "overall_accuracy", "few"} < set(few)
    assert few.items() <= summarize(CONFUSION, COUNTS, NAMES).items()
    with pytest.raises(InputError, match="confusion has shape"):
        group_accuracies(CONFUSION, [1, 2, 3])


def test_ties_for_the_worst_class_go_to_the_rarest_and_then_by_name():
    names, counts = ["d", "c", "b", "a", "e"], [9, 5, 5, 7, 1]
    confusion = np.diag([1, 1, 1, 1, 0])
    confusion[0, 1:4] += 1
    confusion[1, 0] += 1  # each of the first four gets half of two right, and the last has no image
    assert worst_first([0.5] * 4 + [np.nan], counts, names) == [2, 1, 3, 0]
    summary = summarize(confusion, counts, names)
    assert summary["worst_class"] == "b"
    assert [entry["class"] for entry in worst_confusions(confusion, names, counts)] == ["b", "c", "a", "d"]
    run = Run("ce", summary | {"scores": {}})
    assert run.worst_name == "b"
    before = summary | {"worst_class_accuracy": 1.0, "per_class_accuracy": dict.fromkeys("dcba", 1.0)}
    (check,) = Gate(falls={"worst": 0.0}, test="none").judge(Outcome(summary), Outcome(before)).checks
    assert re.findall("'(.)' by", check.sentence) == ["b", "c", "a", "d"]


def test_rarest_three_prefers_the_higher_label_among_equals():
    confusion = np.diag([4, 3, 2, 1]) + np.diag([6, 7, 8, 9])[[1, 2, 3, 0]]
    assert summarize(confusion, [5, 5, 5, 5], NAMES)["rarest_three_accuracy"] == pytest.approx(0.2)


def test_a_class_without_test_images_is_left_out():
    confusion = np.array([[8, 2, 0], [2, 6, 0], [0, 2, 0]])
    summary = summarize(confusion, [300, 150, 5], ["cat", "dog", "owl"])
    assert summary["per_class_accuracy"] == {"cat": 0.8, "dog": 0.6, "owl": None}
    assert summary["worst_class"] == "dog"
    assert summary["balanced_accuracy"] == pytest.approx(0.7)
    assert summary["rarest_three_accuracy"] == pytest.approx(0.7)
    assert summary["few"] is None
    assert summary["test_counts"] == {"cat": 10, "dog": 10, "owl": 0}
    assert summary["per_class"]["owl"] == {"precision": 0.0, "recall": None, "f1": 0.0}
    assert summary["medium"] is None
    shown = worst_confusions(confusion, ["cat", "dog", "owl"], [300, 150, 5])
    assert [entry["class"] for entry in shown] == ["dog", "cat"]


def test_an_empty_confusion_has_no_score():
    summary = summarize(np.zeros((2, 2), np.int64), [5, 5], ["a", "b"], train_worst_class_accuracy=0.5)
    scores = {key: value for key, value in summary.items() if not isinstance(value, dict)}
    assert scores.pop("train_worst_class_accuracy") == 0.5
    assert scores.pop("lambda_r0") == 0.2
    assert set(scores.values()) == {None}
    assert worst_accuracy(np.zeros((2, 2), np.int64)) is None


@pytest.mark.parametrize("unknown", [None, 0.0])
def test_ratio_needs_a_training_accuracy(unknown):
    assert summarize(CONFUSION, COUNTS, NAMES, unknown)["worst_class_ratio"] is None


def test_worst_confusions_by_hand():
    assert worst_confusions(CONFUSION, NAMES, COUNTS, worst=2, top=2) == [
        {
            "class": "owl",
            "class_count": 10,
            "images": 10,
            "right": 2,
            "accuracy": 0.2,
            "precision": 2 / 7,
            "f1": pytest.approx(4 / 17),
            "confused_with": [{"class": "dog", "fraction": 0.5}, {"class": "cat", "fraction": 0.3}],
        },
        {
            "class": "rat",
            "class_count": 10,
            "images": 10,
            "right": 4,
            "accuracy": 0.4,
            "precision": 1.0,
            "f1": pytest.approx(8 / 14),
            "confused_with": [{"class": "owl", "fraction": 0.4}, {"class": "cat", "fraction": 0.2}],
        },
    ]


def test_the_rarer_of_two_equally_bad_classes_comes_first():
    confusion = np.array([[0, 1], [1, 0]])
    assert [e["class"] for e in worst_confusions(confusion, ["cat", "dog"], [9, 2])] == ["dog", "cat"]


labelled = st.integers(2, 6).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60)
    )
)


@given(labelled)
@settings(deadline=None)
@pytest.mark.filterwarnings(
    "ignore:y_pred contains classes not in y_true",
    "ignore:A single label was found",
    "ignore:The number of unique classes",
)
def test_scores_agree_with_scikit_learn(sample):
    num_classes, pairs = sample
    predictions, targets = np.array(pairs).T
    confusion = confusion_counts(predictions, targets, num_classes)
    summary = summarize(confusion, [10] * num_classes, list("abcdef")[:num_classes])
    # scikit-learn has the truth in the rows.
    assert (confusion == confusion_matrix(targets, predictions, labels=range(num_classes)).T).all()
    assert summary["overall_accuracy"] == pytest.approx(accuracy_score(targets, predictions))
    assert summary["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(targets, predictions))
    assert summary["macro_f1"] == pytest.approx(f1_score(targets, predictions, average="macro"))


@given(labelled)
@settings(deadline=None)
def test_the_means_are_in_order(sample):
    num_classes, pairs = sample
    confusion = confusion_counts(*np.array(pairs).T, num_classes)
    summary = summarize(confusion, [10] * num_classes, list("abcdef")[:num_classes])
    rising = ("worst_class_accuracy", "worst_1pct", "worst_5pct", "worst_10pct", "balanced_accuracy")
    values = [summary[key] for key in rising]
    assert (np.diff(values) >= -1e-12).all()
    worst, balanced = values[0], values[-1]
    harmonic, geometric = summary["harmonic_mean"], summary["geometric_mean"]
    assert worst - 1e-12 <= geometric <= balanced + 1e-12
    if worst > 0:
        assert worst - 1e-12 <= harmonic <= geometric + 1e-12
    else:
        assert geometric == 0 < harmonic <= 1e-5 * num_classes


@given(labelled, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_batches_add_up_and_order_does_not_matter(sample, random):
    num_classes, pairs = sample
    whole = confusion_counts(*np.array(pairs).T, num_classes)
    random.shuffle(pairs)
    cut = len(pairs) // 2
    parts = [np.array(part, np.int64).reshape(-1, 2).T for part in (pairs[:cut], pairs[cut:])]
    assert (sum(confusion_counts(*part, num_classes) for part in parts) == whole).all()
    accuracies = class_accuracies(whole)
    assert worst_accuracy(whole) == np.nanmin(accuracies)
    assert worst_accuracy(whole) <= whole.trace() / whole.sum() <= np.nanmax(accuracies)


@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [([0, 3], [0, 1], "predictions hold label 3"), ([0, 1], [0, -1], "targets hold label -1"), ([0], [0, 1], "shape")],
)
def test_labels_out_of_range_are_named(predictions, targets, message):
    with pytest.raises(InputError, match=message):
        confusion_counts(np.array(predictions), np.array(targets), 3)


def test_numbers_of_classes_must_agree():
    with pytest.raises(InputError, match="confusion has shape"):
        summarize(CONFUSION, [1, 2, 3], NAMES[:3])
    with pytest.raises(InputError, match="class_names"):
        worst_confusions(CONFUSION, NAMES[:3], COUNTS)
