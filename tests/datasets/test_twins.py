"""Pairs that differ in few bits are all found, without comparing all."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from car_ext.datasets.twins import copies, differing, groups, looks, near

NUMBERS = st.integers(0, 2**64 - 1)


@given(st.lists(NUMBERS, max_size=12, unique=True), st.lists(st.integers(0, 63), max_size=5), st.integers(0, 6))
@settings(deadline=None)
def test_every_near_pair_is_found_once(numbers, bits, most):
    flipped = [numbers[0] ^ (1 << bit) for bit in bits] if numbers else []
    hashes = np.array(list(dict.fromkeys([*numbers, *flipped])), np.uint64)
    expected = [
        [i, j]
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if bin(int(hashes[i]) ^ int(hashes[j])).count("1") <= most
    ]
    assert near(hashes, most).tolist() == expected


def test_differing_bits():
    assert differing(np.array([0, 2**64 - 1], np.uint64), np.array([0b1011], np.uint64)).tolist() == [3, 61]


def test_groups_follow_pairs():
    found = groups(np.array([[0, 4], [4, 5], [1, 2]]), 7)
    assert [group.tolist() for group in found] == [[0, 4, 5], [1, 2]]
    assert groups(np.empty((0, 2), int), 0) == []
    assert [group.tolist() for group in copies([b"a", b"b", b"a"])] == [[0, 2]]


def test_looks_outlive_a_change_of_size_and_light():
    random = np.random.default_rng(0)
    cells = [Image.fromarray(random.integers(0, 200, (5, 5), np.uint8)) for _ in range(20)]
    large, small = (
        np.stack([np.asarray(c.resize((s, s), 3).resize((32, 32), 2)) for c in cells]).astype(float) for s in (200, 90)
    )
    same = [int(differing(*pair)) for pair in zip(looks(large), looks(small * 0.9 + 20), strict=True)]
    assert max(same) <= 4
    others = differing(looks(large)[:, None], looks(large))
    assert others[~np.eye(20, dtype=bool)].min() > 8
