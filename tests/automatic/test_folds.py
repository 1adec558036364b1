"""Folds and groups: what belongs together stays together, and what cannot be measured is not."""

import numpy as np
from numpy.testing import assert_array_equal

from car_ext.automatic.dependence import dependence
from car_ext.automatic.folds import UNMEASURED, deal
from car_ext.datasets import Split


def test_groups_stay_together_and_every_class_is_always_trained_on():
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2, 3], [60, 30, 6, 2])
    groups = np.concatenate([np.arange(60) // 3, 100 + np.arange(30) // 2, [200, 200, 201, 201, 202, 202], [300, 301]])
    order = random.permutation(len(targets))
    targets, groups = targets[order], groups[order]
    fold = deal(targets, groups, seed=1)
    for group in np.unique(groups):
        assert len(np.unique(fold[groups == group])) == 1
    for number in np.unique(fold[fold != UNMEASURED]):
        assert_array_equal(np.unique(targets[fold != number]), [0, 1, 2, 3])
    assert_array_equal(np.unique(fold), [0, 1, 2, 3, 4])
    assert_array_equal(deal(targets, groups, seed=1), fold)
    assert (deal(targets, groups, seed=2) != fold).any()


def test_a_class_of_one_group_is_not_measured_nor_is_what_shares_its_group():
    targets = np.array([0] * 10 + [1] * 10 + [2, 2, 2])
    groups = np.array([*range(20), 30, 30, 30])
    fold = deal(targets, groups, seed=0)
    assert (fold[targets == 2] == UNMEASURED).all()
    assert (fold[:20] != UNMEASURED).all()
    groups[0] = 30  # a picture of class 0 shows what those of class 2 show
    assert deal(targets, groups, seed=0)[0] == UNMEASURED
    assert (deal(np.array([0, 1]), np.array([0, 1]), seed=0) == UNMEASURED).all()


def objects(each=6, frames=5, classes=3, spread=0.05, alike=1.0):
    """Features of frames of objects: those of an object are `spread` apart, objects of a class `alike`."""
    random = np.random.default_rng(0)
    features, targets, files = [], [], []
    for label in range(classes):
        centre = 3 * random.normal(size=16)
        for number in range(each):
            thing = centre + alike * random.normal(size=16)
            for frame in range(frames):
                features.append(thing + spread * random.normal(size=16))
                targets.append(label)
                files.append(f"{label}/{number:05d}_{frame:05d}.png")
    images = random.integers(0, 255, (len(targets), 8, 8, 3), np.uint8)
    return Split(images, np.array(targets), tuple(files)), np.array(features, np.float32)


def noise(number):
    return np.random.default_rng(1).normal(size=(number, 32, 32)).astype(np.float32)


def test_names_with_a_number_at_their_end_are_groups_where_their_images_are_alike():
    split, features = objects(spread=0.3)
    found = dependence(split, features, noise(len(split)), None)
    assert found.source.endswith("names that differ in the number at their end alone")
    assert len(np.unique(found.numbers)) == 18
    assert_array_equal(found.numbers, np.repeat(np.arange(18), 5))


def test_names_are_not_believed_where_images_of_a_name_are_no_more_alike_than_others():
    split, features = objects(spread=3.0, alike=0.0)
    found = dependence(split, features, noise(len(split)), None)
    assert (found.source, len(np.unique(found.numbers))) == ("", len(split))


def test_numbers_alone_are_no_groups():
    split, features = objects(spread=1.0)
    files = tuple(f"{label}/img_{at}.png" for at, label in enumerate(split.targets))
    found = dependence(Split(split.images, split.targets, files), features, noise(len(split)), None)
    assert found.source == ""


def test_near_copies_are_joined_by_hash_and_by_features():
    split, features = objects(each=2, frames=1, classes=4, alike=3)
    grey = noise(8)
    grey[3] = grey[0]
    features[5] = 1.001 * features[4]
    files = tuple("abcdefgh")
    found = dependence(Split(split.images, split.targets, files), features, grey, None)
    assert found.source == "near copies (4 images)"
    assert found.numbers[0] == found.numbers[3]
    assert found.numbers[4] == found.numbers[5]
    assert len(np.unique(found.numbers)) == 6


def test_named_groups_are_taken_as_they_are():
    split, features = objects()
    found = dependence(split, features, noise(len(split)), r"/(\d+)_")
    assert len(np.unique(found.numbers)) == 6  # of the same numbers in every class
    assert "named" in found.source


def test_two_images_a_class_are_dealt_into_two_folds():
    targets = np.repeat(np.arange(4), 2)
    fold = deal(targets, np.arange(8), seed=0)
    assert set(fold[fold != UNMEASURED].tolist()) <= {0, 1}
    for number in (0, 1):
        assert_array_equal(np.unique(targets[fold != number]), np.arange(4))
