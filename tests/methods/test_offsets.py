"""Offsets for the worst class, held against slow and obvious searches."""

import itertools

import numpy as np
import pytest

from car_ext import InputError
from car_ext.methods.offsets import FITS, drops, minimax, shrunken, soft_minimum


def of_two_classes(seed=0, images=4000, bias=1.5):
    """Logits of two classes whose best common accuracy is known: unit normals two apart, and a bias to the first."""
    random = np.random.default_rng(seed)
    targets = np.repeat([0, 1], [images, images // 8])
    place = random.normal(size=len(targets)) + np.where(targets == 0, 1, -1)
    return np.stack([place + bias, -place], axis=1), targets


def accuracies(logits, targets, offsets):
    hit = (logits + offsets).argmax(axis=1) == targets
    return np.bincount(targets[hit], minlength=logits.shape[1]) / np.bincount(targets, minlength=logits.shape[1])


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_offsets_lift_the_worst_class_on_fresh_images(fit):
    logits, targets = of_two_classes()
    fresh, labels = of_two_classes(seed=1)
    found = fit(logits, targets)
    assert found.shape == (2,)
    assert abs(found.mean()) < 1e-12
    before, after = accuracies(fresh, labels, 0), accuracies(fresh, labels, found)
    assert before.min() < 0.65
    assert after.min() > before.min() + 0.1
    # Where both classes are as good, both are Phi(1) = 0.841; short steps stop before.
    if fit is minimax:
        assert 0.8 < after.min() < 0.85


def test_minimax_is_nearly_as_good_as_a_grid_of_offsets():
    random = np.random.default_rng(2)
    targets = np.repeat([0, 1, 2], [600, 200, 60])
    logits = random.normal(size=(len(targets), 3)) + 1.2 * np.eye(3)[targets] + np.array([1.5, 0.5, 0.0])
    images = np.bincount(targets)

    def worst(offsets):
        hit = (logits + offsets).argmax(axis=1) == targets
        return shrunken(np.bincount(targets[hit], minlength=3), images).min()

    grid = np.arange(-3, 3.01, 0.1)
    best = max(worst(np.array([0.0, second, third])) for second, third in itertools.product(grid, grid))
    assert worst(np.zeros(3)) < best - 0.3
    assert worst(minimax(logits, targets)) > best - 0.1


def test_soft_minimum_is_where_its_loss_is_lowest():
    """The loss as it is defined, in float64 and loops, does not fall in any direction."""
    random = np.random.default_rng(3)
    targets = np.repeat([0, 1, 2], [30, 10, 5])
    logits = random.normal(size=(45, 3)) + np.eye(3)[targets]
    found = soft_minimum(logits, targets)

    def loss(offsets):
        sums = np.zeros(3)
        for row, label in zip(logits, targets, strict=True):
            share = np.exp(row + offsets)
            sums[label] += share[label] / share.sum()
        images = np.bincount(targets)
        drawn = (sums + 8 * (sums / images).mean()) / (images + 8)
        return np.log(np.exp(-10 * drawn).sum()) / 10 + 1e-3 * (offsets**2).sum()

    here = loss(found)
    for step in 0.05 * np.concatenate([np.eye(3), -np.eye(3)]):
        assert loss(found + step) > here - 1e-6


def test_drops_without_room_leaves_everything_as_it_is_and_is_a_distribution_within_its_distance():
    logits, targets = of_two_classes(images=400)
    assert np.allclose(drops(logits, targets, delta=0.0), 0, atol=1e-3)
    found = drops(logits, targets, delta=0.1)
    shares = np.exp(found) / np.exp(found).sum()
    assert shares[1] > shares[0]  # the rare class is the worse one
    assert (shares * np.log(shares * 2)).sum() == pytest.approx(0.1, abs=0.02)


def test_shrunken_accuracies_by_hand():
    # Accuracies 0.9 and 0 of 10 and 1 images: their mean counts for 8 images each.
    assert shrunken(np.array([9, 0]), np.array([10, 1])) == pytest.approx([(9 + 3.6) / 18, 3.6 / 9])
    assert shrunken(np.array([9, 0]), np.array([10, 0])) == pytest.approx([(9 + 7.2) / 18, 0.9])


def test_what_does_not_fit_is_refused():
    for fit in FITS.values():
        with pytest.raises(InputError, match=r"logits have shape \(3, 2\) and targets \(2,\)"):
            fit(np.zeros((3, 2)), np.zeros(2, np.int64))
    with pytest.raises(InputError, match="delta"):
        drops(np.zeros((2, 2)), np.zeros(2, np.int64), delta=-1)
