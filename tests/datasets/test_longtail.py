"""Which images of a data set a long-tailed benchmark keeps: exactly the published ones."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_ext.datasets import DataOptions, load
from car_ext.datasets.longtail import imbalance
from car_ext.datasets.profiles import step_profile
from car_ext.errors import InputError
from car_ext.priors import shot_groups

NAMES = [str(label) for label in range(200)]

# total, counts of the first and the last class, many / medium / few (Cao et al., NeurIPS 2019)
PUBLISHED = {
    (10, 5000, 10): (20431, 500, (10, 0, 0)),
    (10, 5000, 50): (13996, 100, (9, 1, 0)),
    (10, 5000, 100): (12406, 50, (8, 2, 0)),
    (10, 5000, 200): (11203, 25, (7, 3, 0)),
    (100, 500, 10): (19573, 50, (69, 31, 0)),
    (100, 500, 50): (12608, 10, (41, 41, 18)),
    (100, 500, 100): (10847, 5, (35, 35, 30)),
    (100, 500, 200): (9502, 2, (30, 31, 39)),
    (200, 500, 10): (39072, 50, (139, 61, 0)),
    (200, 500, 50): (25082, 10, (82, 82, 36)),
    (200, 500, 100): (21549, 5, (70, 70, 60)),
    (200, 500, 200): (18836, 2, (61, 60, 79)),
}


def labels(num_classes, per_class):
    """Balanced labels in an order as disorderly as that of CIFAR's files, the same on every machine."""
    return np.random.RandomState(2009).permutation(np.repeat(np.arange(num_classes), per_class))


def published_rule(targets, counts, seed):
    """The seeded rule as the papers' code states it, on plain lists: one generator, class after class."""
    random, kept = np.random.RandomState(seed), []
    for label, count in enumerate(counts):
        positions = [position for position, target in enumerate(targets.tolist()) if target == label]
        random.shuffle(positions)
        kept += positions[:count]
    return kept


def checksum(positions):
    return hashlib.sha256(np.asarray(positions, "<i8").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(("shape", "expected"), PUBLISHED.items(), ids=str)
@pytest.mark.parametrize("selection", ["seeded", "first"])
def test_class_counts_are_the_published_ones(shape, expected, selection):
    num_classes, per_class, ratio = shape
    targets = labels(num_classes, per_class)
    counts = np.bincount(targets[imbalance(targets, NAMES[:num_classes], ratio, selection=selection)])
    shots = tuple(int(group.sum()) for group in shot_groups(counts).values())
    assert (counts.sum(), counts[-1], shots) == expected
    assert counts[0] == counts.max() == per_class


@pytest.mark.parametrize(
    ("num_classes", "per_class", "seed", "expected"),
    [
        (10, 5000, 0, "d0fa026fedd3a4f9"),  # CIFAR10-LT
        (100, 500, 0, "048fdf85be0bda47"),  # CIFAR100-LT
        (10, 5000, 10, "1be71fb7258cf585"),
    ],
)
def test_the_seeded_selection_is_the_published_one(num_classes, per_class, seed, expected):
    targets = labels(num_classes, per_class)
    kept = imbalance(targets, NAMES[:num_classes], 100, "exp", "seeded", seed)
    counts = [int(per_class * 0.01 ** (label / (num_classes - 1.0))) for label in range(num_classes)]
    assert kept.tolist() == published_rule(targets, counts, seed)
    assert checksum(kept) == expected


def test_the_first_selection_takes_file_order():
    targets = labels(10, 50)
    kept = imbalance(targets, NAMES[:10], 10, selection="first")
    counts = np.bincount(targets[kept])
    expected = [p for label in range(10) for p in [i for i in range(500) if targets[i] == label][: counts[label]]]
    assert kept.tolist() == expected


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    imbalance(labels(10, 50), NAMES[:10], 10, selection="seeded")
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_step_profile():
    assert step_profile(5000, 10, 100).tolist() == [5000] * 5 + [50] * 5
    assert step_profile(7, 5, 2).tolist() == [7, 7, 3, 3, 3]
    targets = labels(10, 100)
    assert np.bincount(targets[imbalance(targets, NAMES[:10], 20, "step")]).tolist() == [100] * 5 + [5] * 5
    with pytest.raises(InputError, match="at least 2 classes"):
        step_profile(5, 1, 2)


@given(st.integers(1, 500), st.integers(2, 20), st.floats(1, 500))
def test_a_step_has_two_counts_in_the_ratio(max_count, num_classes, ratio):
    counts = step_profile(max_count, num_classes, ratio).tolist()
    assert counts[: num_classes // 2] == [max_count] * (num_classes // 2)
    assert len(set(counts[num_classes // 2 :])) == 1
    assert max_count / ratio - 1 - 1e-9 <= counts[-1] <= max_count / ratio + 1e-9


def test_a_step_that_does_not_fit_is_refused_with_the_ratio_that_does():
    targets = np.repeat(np.arange(4), [100, 100, 100, 10])
    with pytest.raises(InputError, match=r"class '3' has 10 training images .* these files allow is 9\.1$"):
        imbalance(targets, NAMES[:4], 5, "step")
    assert np.bincount(targets[imbalance(targets, NAMES[:4], 9.1, "step")]).tolist() == [100, 100, 10, 10]
    with pytest.raises(InputError, match="no imbalance ratio fits"):
        imbalance(np.repeat(np.arange(4), [100, 99, 10, 10]), NAMES[:4], 50, "step")


@pytest.mark.parametrize(("profile", "selection"), [("linear", "first"), ("exp", "random")])
def test_unknown_rules_are_named(profile, selection):
    with pytest.raises(InputError, match=r"linear|random"):
        imbalance(labels(10, 5), NAMES[:10], 2, profile, selection)


def test_options_reach_the_cut():
    plain = load("digits", imbalance_ratio=10)
    drawn = load("digits", imbalance_ratio=10, options=DataOptions(selection="seeded", selection_seed=3))
    step = load("digits", imbalance_ratio=10, options=DataOptions(profile="step"))
    assert plain.class_counts.tolist() == drawn.class_counts.tolist()
    assert (plain.train.images != drawn.train.images).any()
    whole = load("digits", imbalance_ratio=1).train
    kept = published_rule(whole.targets, plain.class_counts, 3)
    assert (drawn.train.images == whole.images[kept]).all()
    assert step.class_counts.tolist() == [100] * 5 + [10] * 5


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (DataOptions(selection_seed=3), "--selection-seed is 3"),
        (DataOptions(data_root="x"), "--data-root"),
        (DataOptions(test_list="x"), "--test-list"),
        (DataOptions(label_column="x"), "--label-column"),
        (DataOptions(download=True), "--download"),
    ],
)
def test_an_option_without_effect_is_refused(options, word):
    with pytest.raises(InputError, match=word):
        load("digits", imbalance_ratio=10, options=options)
