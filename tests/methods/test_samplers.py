"""What each order draws how often, and that seed and epoch are all it depends on, whatever the number of ranks."""

from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from car_ext.errors import InputError
from car_ext.methods.registry import methods
from car_ext.methods.samplers import Sampler, build_sampler
from car_ext.seeds import derive

COUNTS = [600, 200, 60, 20, 4]
TARGETS = np.random.default_rng(0).permutation(np.repeat(np.arange(len(COUNTS)), COUNTS))
N, K = len(TARGETS), len(COUNTS)
NAMES = ["instance", "class_balanced", "square_root", "reverse", "progressive", "drs", "class_aware"]


def epoch_of(sampler: Sampler, epoch: int, epochs: int = 10) -> list[list[int]]:
    sampler.set_epoch(epoch, epochs)
    return list(sampler)


def joined(batches) -> list[int]:
    return list(chain.from_iterable(batches))


def order(spec: str, epoch: int = 1, epochs: int = 10, targets=TARGETS, seed: int = 0) -> np.ndarray:
    return np.concatenate(epoch_of(build_sampler(spec, targets, 64, seed), epoch, epochs))


def test_all_of_them_are_known():
    assert list(methods("sampler")) == sorted(NAMES)


def test_seeds_are_what_they_were():
    assert derive("order", 0, 1) == 8952592406547690636
    assert len({derive("order", 0, 1), derive("order", 1, 0), derive("other", 0, 1)}) == 3


@pytest.mark.parametrize("samples", [1, 15, 16, 17, 31, 33, 48, 49, 50])
def test_instance_is_one_shuffle_cut_into_batches(samples):
    """A last single one joins its neighbours: batch normalisation cannot train on one image."""
    sampler = build_sampler("instance", np.zeros(samples), 16, 5)
    batches = epoch_of(sampler, 3)
    shuffled = torch.randperm(samples, generator=torch.Generator().manual_seed(derive("order", 5, 3))).tolist()
    assert joined(batches) == shuffled
    full, rest = divmod(samples, 16)
    expected = [16] * full + [rest] * (rest > 0)
    if rest == 1 and full:
        expected[-2:] = [17]
    assert [len(batch) for batch in batches] == expected
    assert len(sampler) == len(batches)


def test_batches_of_one_stay_single():
    assert [len(batch) for batch in epoch_of(build_sampler("instance", np.zeros(5), 1, 0), 1)] == [1] * 5


@pytest.mark.parametrize(
    ("name", "epoch", "epochs", "q"),
    [
        ("class_balanced", 1, 10, np.ones(K)),
        ("square_root", 1, 10, np.sqrt(COUNTS)),
        ("reverse", 1, 10, 1 / np.array(COUNTS)),
        ("progressive", 1, 10, 0.9 * np.array(COUNTS) / N + 0.1 / K),
        ("progressive", 7, 10, 0.3 * np.array(COUNTS) / N + 0.7 / K),
        ("progressive", 10, 10, np.ones(K)),
        ("drs", 9, 10, np.ones(K)),
        ("drs:start=0", 1, 10, np.ones(K)),
    ],
)
def test_class_frequencies(name, epoch, epochs, q):
    q = q / q.sum()
    drawn = np.concatenate([order(name, epoch, epochs, seed=seed) for seed in range(40)])
    assert len(drawn) == 40 * N
    frequencies = np.bincount(TARGETS[drawn], minlength=K) / len(drawn)
    assert (np.abs(frequencies - q) < 4.5 * np.sqrt(q * (1 - q) / len(drawn))).all()
    for label, count in enumerate(COUNTS):  # and uniformly inside a class
        p = q[label] / count
        each = np.bincount(drawn, minlength=N)[label == TARGETS] / len(drawn)
        assert (np.abs(each - p) < 6 * np.sqrt(p / len(drawn))).all()


@pytest.mark.parametrize(("spec", "last"), [("drs", 8), ("drs:start=0.57", 6), ("drs:start=1", 10)])
def test_drs_sees_each_sample_once_until_it_starts(spec, last):
    for epoch in range(1, 11):
        once = sorted(order(spec, epoch, 10)) == list(range(N))
        assert once == (epoch <= last)


@pytest.mark.parametrize("together", [1, 3, 4])
def test_class_aware_goes_in_cycles(together):
    drawn = order(f"class_aware:num_samples_cls={together}")
    assert len(drawn) == N
    visits = [drawn[start : start + together] for start in range(0, N, together)]
    classes = [set(TARGETS[visit]) for visit in visits]
    assert all(len(labels) == 1 for labels in classes)
    visited = [labels.pop() for labels in classes]
    cycles = [visited[start : start + K] for start in range(0, len(visited), K)]
    assert all(sorted(cycle) == list(range(K)) for cycle in cycles[:-1])
    assert len(set(cycles[-1])) == len(cycles[-1])
    assert len({tuple(cycle) for cycle in cycles}) > 20
    for label, count in enumerate(COUNTS):
        mine = drawn[TARGETS[drawn] == label]
        rounds = [mine[start : start + count] for start in range(0, len(mine), count)]
        assert all(len(set(indices)) == len(indices) for indices in rounds)
        assert len({tuple(indices) for indices in rounds}) == len(rounds) or count == 4  # few orders of four


def test_class_aware_takes_four_at_a_time():
    assert np.array_equal(order("class_aware"), order("class_aware:num_samples_cls=4"))


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_is_a_function_of_seed_and_epoch(name):
    state = torch.get_rng_state()
    sampler, other = build_sampler(name, TARGETS, 64, 7), build_sampler(name, list(TARGETS), 64, 7)
    first = epoch_of(sampler, 1)
    assert len(sampler) == len(first)
    assert epoch_of(sampler, 2) != first
    iterator = iter(other)
    next(iterator)  # one that was not finished leaves no trace
    assert epoch_of(other, 1) == first == epoch_of(sampler, 1)
    assert epoch_of(build_sampler(name, TARGETS, 64, 8), 1) != first
    assert torch.equal(torch.get_rng_state(), state)


@given(st.sampled_from(NAMES), st.integers(1, 4), st.integers(1, 9), st.integers(10, 120), st.integers(0, 3))
def test_shards_are_parts_of_one_order(name, ranks, batch_size, samples, epoch):
    targets = np.arange(samples) % 3
    shards = [
        epoch_of(build_sampler(name, targets, batch_size, 1, rank=rank, world_size=ranks), epoch)
        for rank in range(ranks)
    ]
    one = epoch_of(build_sampler(name, targets, ranks * batch_size, 1), epoch)
    together = [joined(parts) for parts in zip(*shards, strict=True)]  # strict: as many steps on every rank
    if samples % (ranks * batch_size) not in range(1, 2 * ranks):
        assert together == one
    assert joined(together) == joined(one)
    for parts in zip(*shards, strict=True):
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= min(batch_size, 2)


@pytest.mark.parametrize("rest", [1, 3])
def test_a_rest_too_small_for_every_rank_joins_the_batch_before(rest):
    shards = [
        epoch_of(build_sampler("instance", np.zeros(16 + rest), 4, 0, rank=rank, world_size=2), 1) for rank in (0, 1)
    ]
    assert [[len(batch) for batch in shard] for shard in shards] == [[4, 4 + rest // 2], [4, 4 + (rest + 1) // 2]]


def test_a_class_is_drawn_whatever_its_place():
    targets = np.array([1] * 30 + [0])
    assert (order("class_balanced", targets=targets) == 30).sum() > 5
    assert (order("reverse", targets=targets) == 30).sum() > 20


@pytest.mark.parametrize(
    ("spec", "targets", "options", "named"),
    [
        ("class_balanced", [0, 0, 2], {}, "class 1 has class_counts entry 0"),
        ("instance", [0, 1], {"world_size": 3}, "2 samples cannot be shared by 3 ranks"),
        ("instance", [], {}, "0 samples"),
        ("instance", [0, 1], {"rank": 1}, "rank 1 and world_size 1"),
        ("class_aware:num_samples_cls=0", [0, 1], {}, "num_samples_cls of sampler 'class_aware' is 0"),
        ("drs:start=160", [0, 1], {}, "start of sampler 'drs' is 160"),
        ("instance:start=0", [0, 1], {}, "start of sampler 'instance' is not an option"),
    ],
)
def test_bad_input_is_named(spec, targets, options, named):
    with pytest.raises(InputError, match=named):
        build_sampler(spec, targets, 4, 0, **options)


def test_a_batch_holds_at_least_one():
    with pytest.raises(InputError, match="batch_size is 0"):
        build_sampler("instance", [0, 1], 0, 0)


def test_orders_of_different_epochs_are_unrelated():
    orders = [order("instance", epoch) for epoch in range(1, 9)]
    matches = [np.mean(a == b) for a, b in pairwise(orders)]
    assert max(matches) < 0.02
