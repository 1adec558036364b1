"""Tests of a fall, against values by hand and against one another."""

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from car_ext.evaluation.significance import Paired, Side, Unpaired, holm, p_of_fall
from car_ext.metrics.vocabulary import WORST, scores


def counts(*values):
    return np.array(values)


def test_pairs_are_tested_as_mcnemar_did():
    pair = Paired(both=counts(40, 10, 0), lost=counts(7, 0, 0), won=counts(2, 1, 0), images=counts(50, 20, 0))
    by_hand = [binomtest(7, 9, alternative="greater").pvalue, 1.0, 1.0]
    np.testing.assert_allclose(pair.p_values(), by_hand)
    assert pair.p_value() == pytest.approx(binomtest(7, 10, alternative="greater").pvalue)


def test_others_are_tested_as_fisher_did():
    pair = Unpaired(counts(45, 9), counts(50, 10), counts(30, 19), counts(40, 20))
    tables = [[[45, 5], [30, 10]], [[9, 1], [19, 1]], [[54, 6], [49, 11]]]
    by_hand = [fisher_exact(table, alternative="greater").pvalue for table in tables]
    np.testing.assert_allclose([*pair.p_values(), pair.p_value()], by_hand)


@pytest.mark.parametrize(
    ("pair", "fall"),
    [
        (Paired(counts(20), counts(9), counts(3), counts(40)), 6 / 40),
        (Unpaired(counts(29), counts(40), counts(23), counts(40)), 6 / 40),
    ],
)
def test_the_permutation_test_of_one_class_is_the_exact_one(pair, fall):
    sides = [Side(counts(0), counts(5))] * 2
    assert p_of_fall(WORST, pair, sides, fall) == pytest.approx(pair.p_value(), abs=0.02)
    assert p_of_fall(WORST, pair, sides, fall) == p_of_fall(WORST, pair, sides, fall)


def test_a_model_like_the_other_fails_no_more_often_than_the_level_says():
    random, sides = np.random.default_rng(0), [Side(np.arange(4), counts(9, 9, 9, 9))] * 2
    called = 0
    for _ in range(100):
        right = random.random((2, 4, 30)) < [[[0.9], [0.8], [0.6], [0.6]]]
        first, later = right
        pair = Paired(*(of.sum(axis=1) for of in (first & later, first & ~later, later & ~first, first >= 0)))
        fall = first.mean(axis=1).min() - later.mean(axis=1).min()
        called += fall > 0 and p_of_fall(WORST, pair, sides, fall) <= 0.05
    assert called <= 9  # binomial with 5 %: 1 in 40 is above


def test_classes_that_one_side_lacks_are_left_to_the_other():
    pair = Unpaired(counts(9, 0), counts(10, 0), counts(5, 4), counts(10, 10))
    sides = [Side(counts(0), counts(7)), Side(counts(0, 1), counts(7, 7))]
    (balanced,) = (score for score in scores() if score.gate == "balanced")
    assert 0 < p_of_fall(balanced, pair, sides, 0.9 - 0.45) <= 1


def test_holm_by_hand():
    np.testing.assert_allclose(holm(counts(0.01, 0.04, 0.03, 0.5)), [0.04, 0.09, 0.09, 0.5])
    np.testing.assert_allclose(holm(counts(0.6, 0.9)), [1.0, 1.0])
