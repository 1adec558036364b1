import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

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


def of_counts(correct, total):
    """A confusion matrix with these numbers of images right, of so many a class."""
    confusion = np.diag(correct)
    confusion[(np.arange(len(correct)) + 1) % len(correct), np.arange(len(correct))] += np.subtract(total, correct)
    return confusion


def by_integration(correct, total, level):
    """Quantiles of the lowest of independent Beta(correct + 1/2, wrong + 1/2), on a grid: slow and obvious."""
    grid = np.linspace(0, 1, 20_001)
    above = np.prod([beta.sf(grid, c + 0.5, n - c + 0.5) for c, n in zip(correct, total, strict=True)], axis=0)
    low, high = (grid[np.searchsorted(1 - above, q)] for q in ((1 - level) / 2, (1 + level) / 2))
    return (low if min(correct) else 0.0), (high if np.less(correct, total).any() else 1.0)


@pytest.mark.parametrize(
    ("correct", "total"),
    [
        ((60, 55, 90), (100, 100, 100)),
        ((0, 8), (10, 10)),
        ((7, 9, 20), (10, 10, 20)),
        ((4, 4), (4, 4)),
        ((1, 1), (1, 3)),
    ],
)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_worst_class_interval_is_that_of_the_lowest_of_posteriors(correct, total, level):
    found = worst_class_interval(of_counts(correct, total), level, draws=20_000)
    assert found == pytest.approx(by_integration(correct, total, level), abs=0.012)


@pytest.mark.parametrize("images", [5, 20])
@pytest.mark.parametrize("worst", [0.02, 0.1, 0.5])
def test_the_worst_class_lies_in_its_interval_as_often_as_the_level_says(images, worst):
    # Beside two classes that are clearly better; a bootstrap's interval of 0 to 0 held 0.02 in a tenth of the cases.
    random, held = np.random.default_rng(0), []
    for _ in range(300):
        correct = random.binomial(images, [worst, 0.95, 0.98])
        low, high = worst_class_interval(of_counts(correct, 3 * [images]), 0.95, draws=300)
        held.append(low <= worst <= high)
    assert np.mean(held) > 0.9


def test_no_image_right_is_not_certainty():
    low, high = worst_class_interval(of_counts((0, 9), (10, 10)))
    assert low == 0
    assert high == pytest.approx(beta.ppf(0.975, 0.5, 10.5), abs=0.02)  # 0.22, as Brown, Cai and DasGupta have it


def test_worst_class_interval_is_drawn_from_the_seed():
    confusion = np.array([[6, 5], [4, 5]])
    assert worst_class_interval(confusion, seed=3) == worst_class_interval(confusion, seed=3)
    assert worst_class_interval(confusion, draws=1, seed=0) != worst_class_interval(confusion, draws=1, seed=1)


def test_worst_class_interval_at_the_edges():
    low, high = worst_class_interval(100 * np.eye(3, dtype=int))
    assert 0.95 < low < high == 1
    low, high = worst_class_interval(np.array([[5, 1], [0, 0]]))
    assert low == 0 < high < 1
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
    with pytest.raises(InputError, match="draws"):
        worst_class_interval(np.eye(2, dtype=int), draws=0)
