"""What a search climbs: it tells settings apart where every worst class is at 0."""

import numpy as np
import pytest

from car_ext.metrics import worst_tenth
from car_ext.metrics.worst_tenth import smoothed_worst_tenth


def test_by_hand():
    right, images = np.array([9, 4, 0, 0]), np.array([10, 10, 4, 0])
    prior = 13 / 24
    assert smoothed_worst_tenth(right, images) == pytest.approx((0 + 2 * prior) / 6)
    # Of twenty classes the two lowest.
    right, images = np.arange(20), np.full(20, 20)
    assert smoothed_worst_tenth(right, images) == pytest.approx(((0 + 0.95) + (1 + 0.95)) / 2 / 22)
    assert smoothed_worst_tenth(np.zeros(3), np.zeros(3)) is None


def test_it_is_a_posterior_mean():
    random, prior = np.random.default_rng(0), 13 / 24
    draws = random.beta(2 * prior, 2 * (1 - prior), 400_000)
    chosen = draws[random.binomial(4, draws) == 0]  # what could have given 0 of 4
    assert smoothed_worst_tenth(np.array([9, 4, 0]), np.array([10, 10, 4])) == pytest.approx(chosen.mean(), abs=2e-3)


def test_it_tells_apart_what_is_all_at_zero():
    images = np.array([20, 20, 1])
    # A class of a single image that is not recognised is no worse than one of which none of 20 is.
    assert smoothed_worst_tenth(np.array([20, 20, 0]), images) > smoothed_worst_tenth(np.array([0, 20, 1]), images)
    rising = [smoothed_worst_tenth(np.array([right, 20, 1]), images) for right in range(20)]
    assert (np.diff(rising) > 0).all()


def test_without_a_prior_it_is_the_plain_worst_tenth(monkeypatch):
    monkeypatch.setattr(worst_tenth, "STRENGTH", 0.0)
    right, images = np.array([3, 5, 1]), np.array([4, 10, 8])
    assert smoothed_worst_tenth(right, images) == 1 / 8
