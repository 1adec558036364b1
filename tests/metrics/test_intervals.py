import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from car_ext.errors import InputError
from car_ext.metrics.intervals import wilson_interval, worst_class_interval


def test_wilson_by_hand():
    # Half of n right: the interval is 1/2 -+ z / (2 sqrt(n + z^2)).
    low, high = wilson_interval(50, 100)
    half = 1.959963984540054 / 2 / np.sqrt(100 + 1.959963984540054**2)
    assert (low, high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.01, 0.999))
def test_wilson_agrees_with_scipy(correct, wrong, level):
    total = correct + wrong
    low, high = wilson_interval(correct, total, level)
    if total == 0:
        assert np.isnan([low, high]).all()
        return
    expected = binomtest(correct, total).proportion_ci(level, method="wilson")
    assert (low, high) == (pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12))
    assert 0 <= low <= correct / total + 1e-12
    assert correct / total - 1e-12 <= high <= 1


def test_wilson_takes_every_class_at_once():
    low, high = wilson_interval(np.array([0, 3, 0]), np.array([5, 3, 0]))
    assert low.shape == high.shape == (3,)
    assert (low[0], high[1]) == (0, 1)
    assert np.isnan([low[2], high[2]]).all()


def test_worst_class_interval_is_that_of_the_minimum_of_binomials():
    confusion = np.array([[60, 45, 10], [30, 55, 0], [10, 0, 90]])  # right: 60 %, 55 %, 90 % of 100
    low, high = worst_class_interval(confusion, 0.9, resamples=20_000)
    right = np.arange(101)
    above = np.prod([binom.sf(right, 100, p) for p in (0.6, 0.55, 0.9)], axis=0)  # P(minimum > right)
    exact = [np.searchsorted(1 - above, q) / 100 for q in (0.05, 0.95)]
    assert [low, high] == pytest.approx(exact, abs=0.011)


def test_worst_class_interval_is_drawn_from_the_seed():
    confusion = np.array([[6, 5], [4, 5]])
    assert worst_class_interval(confusion, seed=3) == worst_class_interval(confusion, seed=3)
    assert worst_class_interval(confusion, resamples=1, seed=0) != worst_class_interval(confusion, resamples=1, seed=1)


def test_worst_class_interval_at_the_edges():
    assert worst_class_interval(np.eye(3, dtype=int)) == (1, 1)
    assert worst_class_interval(np.array([[5, 1], [0, 0]])) == (0, 0)
    assert worst_class_interval(np.zeros((2, 2), int)) is None
    low, high = worst_class_interval(np.array([[3, 0], [1, 0]]))  # a class without images says nothing
    assert 0 <= low < 0.75 <= high


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, float("nan")])
def test_levels_are_fractions(level):
    with pytest.raises(InputError, match="level"):
        wilson_interval(1, 2, level)
    with pytest.raises(InputError, match="level"):
        worst_class_interval(np.eye(2, dtype=int), level)


def test_counts_must_be_possible():
    with pytest.raises(InputError, match="0 <= correct <= total"):
        wilson_interval(3, 2)
    with pytest.raises(InputError, match="0 <= correct <= total"):
        wilson_interval([1, -1], [2, 2])
    with pytest.raises(InputError, match="resamples"):
        worst_class_interval(np.eye(2, dtype=int), resamples=0)
