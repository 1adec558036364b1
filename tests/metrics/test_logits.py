import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from car_ext.errors import InputError
from car_ext.metrics.logits import ScoreStatistics


def seen(logits, targets, bins=15) -> ScoreStatistics:
    statistics = ScoreStatistics(np.shape(logits)[1], bins)
    statistics.update(np.asarray(logits), np.asarray(targets))
    return statistics


def sample(images=200, classes=5, seed=0):
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, images)
    return random.normal(0, 2, (images, classes)) + 2 * np.eye(classes)[targets], targets


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def calibration_error(logits, targets, bins) -> float:
    """Image by image, bin by bin."""
    probabilities, error = softmax(logits), 0.0
    for b in range(bins):
        inside = [
            (p.max(), p.argmax() == y)
            for p, y in zip(probabilities, targets, strict=True)
            if b / bins < p.max() <= (b + 1) / bins
        ]
        if inside:
            confidence, right = np.mean(inside, axis=0)
            error += len(inside) / len(targets) * abs(right - confidence)
    return error


def test_by_hand():
    # Probabilities (0.8, 0.2), (0.6, 0.4), (0.3, 0.7) of the classes 0, 1, 1.
    logits = np.log([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    statistics = seen(logits, [0, 1, 1], bins=2)
    summary = statistics.summary(["cat", "dog"])
    assert list(summary) == ["ece", "ece_bins", "brier", "nll", "loma", "regularized_std", "regularized_std_others"]
    assert summary["ece"] == pytest.approx(abs(2 / 3 - (0.8 + 0.6 + 0.7) / 3))  # all above 1/2, two of three right
    assert summary["ece_bins"] == 2
    assert summary["brier"] == pytest.approx((2 * 0.2**2 + 2 * 0.6**2 + 2 * 0.3**2) / 3)
    assert summary["nll"] == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.7)) / 3)
    cat = math.log(0.8) - (math.log(0.6) + math.log(0.3)) / 2
    dog = (math.log(0.4) + math.log(0.7)) / 2 - math.log(0.2)
    assert summary["loma"] == {"cat": pytest.approx(cat), "dog": pytest.approx(dog)}
    assert summary["regularized_std"] == {"cat": 0, "dog": pytest.approx((math.log(0.7) - math.log(0.4)) / 2 / dog)}
    assert summary["regularized_std_others"] == {
        "cat": pytest.approx((math.log(0.6) - math.log(0.3)) / 2 / cat),
        "dog": 0,
    }
    reliability = statistics.reliability()
    assert reliability["edges"].tolist() == [0, 0.5, 1]
    assert reliability["count"].tolist() == [0, 3]
    assert reliability["confidence"] == pytest.approx([np.nan, 0.7], nan_ok=True)
    assert reliability["accuracy"] == pytest.approx([np.nan, 2 / 3], nan_ok=True)


@pytest.mark.parametrize(("classes", "seed"), [(2, 0), (5, 1), (30, 2)])
def test_agrees_with_the_formulas(classes, seed):
    logits, targets = sample(classes=classes, seed=seed)
    summary = seen(logits, targets).summary()
    probabilities, one_hot = softmax(logits), np.eye(classes)[targets]
    assert summary["ece"] == pytest.approx(calibration_error(logits, targets, 15))
    assert summary["brier"] == pytest.approx(((probabilities - one_hot) ** 2).sum(axis=1).mean())
    assert summary["nll"] == pytest.approx(log_loss(targets, probabilities, labels=range(classes)))
    for label in range(classes):
        own, others = logits[targets == label, label], logits[targets != label, label]
        margin = own.mean() - others.mean()
        assert summary["loma"][str(label)] == pytest.approx(margin)
        assert summary["regularized_std"][str(label)] == pytest.approx(own.std() / margin)
        assert summary["regularized_std_others"][str(label)] == pytest.approx(others.std() / margin)


def test_brier_of_two_classes_is_twice_scikit_learns():
    logits, targets = sample(classes=2)
    assert seen(logits, targets).summary()["brier"] == pytest.approx(
        2 * brier_score_loss(targets, softmax(logits)[:, 1])
    )


def test_reliability_agrees_with_scikit_learn():
    # Of two classes, with 0 always predicted, the confidence is the probability that 0 is right.
    logits, targets = sample(classes=2)
    logits = -np.sort(-logits, axis=1)
    reliability = seen(logits, targets, bins=10).reliability()
    accuracy, confidence = calibration_curve(targets == 0, softmax(logits)[:, 0], n_bins=10)
    full = reliability["count"] > 0
    assert reliability["accuracy"][full] == pytest.approx(accuracy)
    assert reliability["confidence"][full] == pytest.approx(confidence)
    assert reliability["count"].sum() == len(targets)


def test_calibration_agrees_with_torchmetrics():
    torchmetrics = pytest.importorskip("torchmetrics")
    import torch

    logits, targets = sample()
    metric = torchmetrics.classification.MulticlassCalibrationError(5, n_bins=15, norm="l1")
    expected = metric(torch.from_numpy(softmax(logits)), torch.from_numpy(targets))
    assert seen(logits, targets).summary()["ece"] == pytest.approx(float(expected))


def test_bins_are_open_below_and_closed_above():
    confidences = np.array([0.5, 0.6, 0.75, 1.0])
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(np.stack([confidences, 1 - confidences], axis=1)), -1e3)
    assert seen(logits, [0] * 4, bins=4).reliability()["count"].tolist() == [0, 1, 2, 1]
    assert seen(logits, [0] * 4, bins=1).reliability()["count"].tolist() == [4]


labelled = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.lists(
            st.tuples(st.lists(st.floats(-30, 30), min_size=k, max_size=k), st.integers(0, k - 1)),
            min_size=1,
            max_size=30,
        ),
        st.lists(st.integers(0, 30), max_size=4),
    )
)


def flat(summary: dict) -> dict:
    nested = {
        f"{key} {name}": v for key, value in summary.items() if isinstance(value, dict) for name, v in value.items()
    }
    return nested | {key: value for key, value in summary.items() if not isinstance(value, dict)}


@given(labelled)
@settings(deadline=None)
def test_batches_and_merged_parts_give_the_whole(drawn):
    images, cuts = drawn
    logits, targets = np.array([z for z, _ in images]), np.array([y for _, y in images])
    whole = seen(logits, targets)
    streamed, merged = (ScoreStatistics(logits.shape[1]) for _ in range(2))
    for part in np.split(np.arange(len(targets)), sorted(min(cut, len(targets)) for cut in cuts)):
        streamed.update(logits[part], targets[part])
        merged.merge(seen(logits[part], targets[part]))
    for other in (streamed, merged):
        assert (other.reliability()["count"] == whole.reliability()["count"]).all()
        a, b = whole.summary(), other.summary()
        for key in ("ece", "brier", "nll"):
            assert b[key] == pytest.approx(a[key], abs=1e-12)
        assert b["loma"] == pytest.approx(a["loma"], abs=1e-12)
        for name, margin in a["loma"].items():
            if margin is None or abs(margin) < 1e-6:  # the quotient is then rounding
                continue
            for key in ("regularized_std", "regularized_std_others"):
                assert b[key][name] == pytest.approx(a[key][name], rel=1e-6, abs=1e-6 / abs(margin))


def test_a_common_offset_costs_no_digits():
    logits, targets = sample()
    expected, statistics = seen(logits, targets).summary(), ScoreStatistics(5)
    for start in range(0, len(targets), 7):
        statistics.update(logits[start : start + 7] + 1e6, targets[start : start + 7])
    # A float64 of 1e6 has 1e-10 between neighbours; sums of squares would leave 1e-4 of a variance of 4.
    assert flat(statistics.summary()) == pytest.approx(flat(expected), rel=1e-8)


def test_the_own_logits_do_not_disturb_the_others():
    logits = np.array([[1e15, 0.25], [0.5, 1e15], [0.75, 1e15]])
    summary = seen(logits, [0, 1, 1]).summary()
    assert summary["regularized_std_others"]["0"] == pytest.approx(0.125 / 1e15)


def test_extreme_logits_stay_finite():
    logits = np.array([[1e4, -1e4, 0], [3e38, -3e38, 0]], np.float32)
    summary = seen(logits, [1, 0]).summary()
    assert summary["nll"] == pytest.approx(1e4)
    assert summary["brier"] == pytest.approx(1)
    assert summary["ece"] == pytest.approx(0.5)
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_lower_precision_is_computed_in_float64(dtype):
    logits, targets = sample()
    logits = logits.astype(dtype)
    assert seen(logits, targets).summary() == seen(logits.astype(np.float64), targets).summary()


def test_what_was_given_is_left_alone():
    logits, targets = sample()
    before = logits.copy(), targets.copy()
    seen(logits, targets)
    assert (logits == before[0]).all()
    assert (targets == before[1]).all()


def test_classes_without_images_have_no_margin():
    summary = seen([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]], [0, 1]).summary()
    assert summary["loma"] == {"0": 0, "1": 0, "2": None}
    assert summary["regularized_std"] == summary["regularized_std_others"] == {"0": None, "1": None, "2": None}
    single = seen([[2.0, 1.0]], [0]).summary()  # all images are of class 0, none of class 1
    assert single["loma"] == {"0": None, "1": None}
    assert single["ece"] == pytest.approx(1 / (1 + math.e))


def test_no_images_have_no_scores():
    statistics = ScoreStatistics(2)
    statistics.update(np.empty((0, 2)), np.empty(0, np.int64))
    statistics.merge(ScoreStatistics(2))
    assert {value for key, value in flat(statistics.summary()).items() if key != "ece_bins"} == {None}
    assert statistics.reliability()["count"].sum() == 0


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        ([[0.0, np.nan]], [0], "logits hold nan for class 1 in row 0"),
        ([[0.0, 1.0], [-np.inf, 0.0]], [0, 0], "logits hold -inf for class 0 in row 1"),
        ([[0.0, 1.0]], [2], "targets hold label 2"),
        ([[0.0, 1.0]], [-1], "targets hold label -1"),
        ([[0.0, 1.0, 2.0]], [0], "shape"),
        ([[0.0, 1.0]], [0, 1], "shape"),
        ([[0.0, 1.0]], [[0]], "shape"),
    ],
)
def test_bad_batches_are_named_and_leave_no_trace(logits, targets, message):
    statistics = seen([[1.0, 3.0]], [1])
    before = statistics.summary()
    with pytest.raises(InputError, match=message):
        statistics.update(np.array(logits), np.array(targets))
    assert statistics.summary() == before


def test_statistics_must_fit():
    with pytest.raises(InputError, match="at least 2 classes and 1 bin"):
        ScoreStatistics(1)
    with pytest.raises(InputError, match="at least 2 classes and 1 bin"):
        ScoreStatistics(2, bins=0)
    for other in (ScoreStatistics(3), ScoreStatistics(2, bins=10)):
        with pytest.raises(InputError, match="cannot be merged"):
            ScoreStatistics(2).merge(other)
