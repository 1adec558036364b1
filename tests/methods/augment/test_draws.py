"""Counter-based draws: the published answers, and numbers that are even and unrelated from key to key."""

import numpy as np
import pytest

from car_ext.methods.augment.draws import Draws, philox

# Counters, key and answer of Philox4x32-10 as Random123 publishes them (kat_vectors).
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def by_integers(counter, key):
    """As the paper has it, in Python's integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        one, two = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = two >> 32 ^ c1 ^ k0, two & 0xFFFFFFFF, one >> 32 ^ c3 ^ k1, one & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


@pytest.mark.parametrize(("counter", "key", "answer"), PUBLISHED)
def test_philox_gives_the_published_answers(counter, key, answer):
    assert tuple(philox(np.array(counter, np.uint64), key).tolist()) == answer == by_integers(counter, key)


def test_a_batch_of_counters_is_each_of_them():
    random = np.random.default_rng(0)
    counters, key = random.integers(0, 2**32, (4, 5, 7), dtype=np.uint64), (123, 2**32 - 5)
    found = philox(counters, key)
    for place in np.ndindex(5, 7):
        assert tuple(found[:, *place]) == by_integers(tuple(map(int, counters[:, *place])), key)


def keys(epochs=1, again=1, images=1):
    return np.stack(np.meshgrid(range(epochs), range(again), range(images), indexing="ij"), -1).reshape(-1, 3)


def test_numbers_are_even_and_unrelated_along_every_part_of_a_key():
    # 60000 numbers; bounds of 5 standard errors.
    for drawn in (keys(epochs=6000), keys(again=6000), keys(images=6000)):
        numbers = Draws("test", 3)(drawn, 10)
        assert numbers.shape == (6000, 10)
        assert 0 <= numbers.min() < 1e-3 and 1 - 1e-3 < numbers.max() < 1  # noqa: PT018
        for column in numbers.T:
            counts = np.bincount((column * 20).astype(int), minlength=20)
            assert ((counts - 300) ** 2 / 300).sum() < 19 + 5 * (2 * 19) ** 0.5
        among = np.corrcoef(np.concatenate([numbers[:-1], numbers[1:]], axis=1).T)  # also of neighbouring keys
        assert np.abs(among - np.eye(20)).max() < 5 / 6000**0.5


def test_every_part_of_key_purpose_and_seed_counts_and_the_batch_does_not():
    everything = keys(3, 3, 50)
    numbers = Draws("one", 0)(everything, 6)
    assert len(np.unique(numbers[:, 0])) == len(numbers)
    order = np.random.default_rng(0).permutation(len(numbers))[:100]
    assert np.array_equal(Draws("one", 0)(everything[order], 6), numbers[order])
    assert np.array_equal(Draws("one", 0)(everything, 3), numbers[:, :3])
    for other in (Draws("two", 0), Draws("one", 1)):
        assert not np.isin(other(everything, 6), numbers).any()
