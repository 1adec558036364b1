"""Sets that hold the true class as often as they promise."""

import math

import numpy as np
import pytest

from car_ext.errors import InputError
from car_ext.metrics.conformal import Coverage, fit_thresholds, prediction_sets, softmax

SHARES = np.array([0.7, 0.25, 0.05])


def images(number, seed):
    """Logits and targets of a long tail, the rare class mostly taken for the frequent one."""
    random = np.random.default_rng(seed)
    targets = random.choice(3, number, p=SHARES)
    logits = random.normal(size=(number, 3)) + 2 * np.eye(3)[targets] + [1.5, 0, -1]
    return logits, targets


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_every_class_is_covered_on_other_images(alpha):
    logits, targets = images(3000, 0)
    thresholds = fit_thresholds(softmax(logits), targets, alpha)
    assert thresholds.pooled == []
    coverage = Coverage(thresholds.values, alpha)
    for seed in (1, 2):
        coverage.update(*images(5000, seed))
    found = coverage.summary(["cat", "dog", "eel"])
    for name, count in zip(("cat", "dog", "eel"), 10000 * SHARES, strict=True):
        fitted = 3000 * SHARES[("cat", "dog", "eel").index(name)]
        spread = math.sqrt(alpha * (1 - alpha) * (1 / count + 1 / fitted))
        assert found["per_class"][name]["coverage"] > 1 - alpha - 3 * spread
    assert found["per_class"]["eel"]["coverage"] < 1 - alpha + 0.1  # and not much more than that
    assert 1 <= found["mean_size"] < 2.5
    assert found["alpha"] == alpha


def test_thresholds_by_hand():
    # 1 - p_y of the first class: 0.1 .. 0.9; ceil(10 * 0.8) = 8th smallest.
    right = np.arange(9, 0, -1) / 10
    probabilities = np.column_stack([right, 1 - right])
    thresholds = fit_thresholds(probabilities, np.zeros(9, int), 0.2)
    assert thresholds.values.tolist() == pytest.approx([0.8, 1.0])
    assert thresholds.pooled == [1]  # no image: in every set
    assert fit_thresholds(probabilities, np.zeros(9, int), 0.1).values[0] == pytest.approx(0.9)  # just enough
    assert fit_thresholds(probabilities, np.zeros(9, int), 0.09).pooled == [0, 1]


def test_the_order_of_the_images_does_not_matter():
    logits, targets = images(300, 0)
    order = np.argsort(targets, kind="stable")
    mixed, sorted_ = (fit_thresholds(softmax(logits[at]), targets[at], 0.1) for at in (slice(None), order))
    assert mixed.values.tolist() == sorted_.values.tolist()
    for label in range(3):
        scores = np.sort(1 - softmax(logits)[targets == label, label])
        rank = math.ceil((len(scores) + 1) * 0.9)
        assert mixed.values[label] == (scores[rank - 1] if rank <= len(scores) else 1.0)


def test_rare_classes_are_pooled():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), 30)
    targets = np.array([0] * 20 + [1] * 5 + [2] * 5)
    thresholds = fit_thresholds(probabilities, targets, 0.1)
    scores = np.sort(1 - probabilities[np.arange(20, 30), targets[20:]])
    assert thresholds.pooled == [1, 2]
    assert thresholds.values[1] == thresholds.values[2] == scores[9]  # ceil(11 * 0.9) = 10th


def test_no_set_is_empty():
    sets = prediction_sets(np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25]]), np.array([0.1, 0.66, 0.1]))
    assert sets.tolist() == [[True, False, False], [True, True, False]]


def test_a_class_without_images_has_no_coverage():
    coverage = Coverage([0.5, 0.5], 0.1)
    coverage.update(np.array([[2.0, 0.0]]), np.array([0]))
    assert coverage.summary(["a", "b"])["per_class"] == {
        "a": {"coverage": 1.0, "size": 1.0},
        "b": {"coverage": None, "size": None},
    }


@pytest.mark.parametrize("alpha", [0, 1, -0.1])
def test_bad_alphas(alpha):
    with pytest.raises(InputError, match="alpha is"):
        fit_thresholds(np.ones((1, 1)), np.zeros(1, int), alpha)
