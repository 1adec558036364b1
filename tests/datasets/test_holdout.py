"""A part of the training set to choose by: disjoint, fixed, and no class left without training images."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_ext.datasets import LongTailedData, Split, hold_out, load
from car_ext.errors import InputError


class Numbers:
    """Images that are their own number, read one by one."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((2, 2, 1), self.numbers[index])

    def take(self, positions) -> "Numbers":
        return Numbers(self.numbers[position] for position in positions)


def of(counts: list[int]) -> LongTailedData:
    targets = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    names = tuple(f"class {label}" for label in range(len(counts)))
    return LongTailedData(
        "some", names, Split(Numbers(range(len(targets))), targets), Split(Numbers([]), targets[:0]), 2, 1
    )


def numbers(split: Split) -> list[int]:
    return [int(split.images[i][0, 0, 0]) for i in range(len(split))]


@given(st.lists(st.integers(1, 12), min_size=2, max_size=6), st.floats(0.01, 0.99))
def test_every_image_goes_to_one_side_with_its_label(counts, share):
    data = of(counts)
    if max(counts) == 1:
        with pytest.raises(InputError, match="one training image a class"):
            hold_out(data, share)
        return
    part = hold_out(data, share)
    assert sorted(numbers(part.train) + numbers(part.test)) == list(range(sum(counts)))
    for split in (part.train, part.test):
        assert split.targets.tolist() == data.train.targets[numbers(split)].tolist()
    for count, kept in zip(counts, part.class_counts.tolist(), strict=True):
        assert 1 <= kept <= count
        assert kept < count or count == 1
        assert abs(count - kept - share * count) <= 1


def test_the_choice_is_fixed_and_arrays_stay_arrays():
    data = load("digits")
    first, second = hold_out(data, 0.3), hold_out(data, 0.3)
    assert isinstance(first.train.images, np.ndarray)
    assert np.array_equal(first.test.images, second.test.images)
    lazy = dataclasses.replace(data, train=Split(Numbers(range(len(data.train))), data.train.targets))
    assert np.array_equal(first.test.images, data.train.images[numbers(hold_out(lazy, 0.3).test)])


def test_classes_keep_about_the_same_share():
    counts = hold_out(of([100, 10, 3, 2, 1]), 0.2).class_counts.tolist()
    assert counts == [80, 8, 2, 1, 1]


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_is_a_fraction(share):
    with pytest.raises(InputError, match="share is"):
        hold_out(of([2, 2]), share)
