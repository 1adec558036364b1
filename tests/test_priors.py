import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_ext.datasets.profiles import exponential_profile
from car_ext.errors import InputError
from car_ext.priors import (
    check_class_counts,
    effective_number_weights,
    relative_frequencies,
    shot_groups,
    spectral_weights,
)


@pytest.mark.parametrize(
    ("num_classes", "max_count", "ratio", "total", "last", "groups"),
    [
        (10, 5000, 10, 20431, 500, (10, 0, 0)),
        (10, 5000, 50, 13996, 100, (9, 1, 0)),
        (10, 5000, 100, 12406, 50, (8, 2, 0)),
        (10, 5000, 200, 11203, 25, (7, 3, 0)),
        (100, 500, 10, 19573, 50, (69, 31, 0)),
        (100, 500, 50, 12608, 10, (41, 41, 18)),
        (100, 500, 100, 10847, 5, (35, 35, 30)),
        (100, 500, 200, 9502, 2, (30, 31, 39)),
        (200, 500, 100, 21549, 5, (70, 70, 60)),
    ],
)
def test_profile_has_the_published_counts(num_classes, max_count, ratio, total, last, groups):
    counts = exponential_profile(max_count, num_classes, ratio)
    assert (counts.sum(), counts[0], counts[-1]) == (total, max_count, last)
    assert tuple(mask.sum() for mask in shot_groups(counts).values()) == groups


def test_cifar10_lt_list():
    assert exponential_profile(5000, 10, 100).tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


@given(st.integers(1, 5000), st.integers(2, 50), st.floats(1, 1e4))
def test_profile_never_rises(max_count, num_classes, ratio):
    counts = exponential_profile(max_count, num_classes, ratio)
    assert counts.shape == (num_classes,)
    assert counts.dtype == np.int64
    assert counts[0] == max_count
    assert (np.diff(counts) <= 0).all()
    assert counts[-1] >= max_count / ratio - 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((10, 1, 2), "num_classes"),
        ((0, 10, 2), "max_count"),
        ((10, 10, 0.5), "imbalance_ratio"),
        ((10, 10, float("inf")), "imbalance_ratio"),
        ((10, 10, float("nan")), "imbalance_ratio"),
    ],
)
def test_bad_profile_is_named(arguments, named):
    with pytest.raises(InputError, match=named):
        exponential_profile(*arguments)


def test_group_boundaries():
    groups = shot_groups([101, 100, 20, 19])
    assert {name: mask.tolist() for name, mask in groups.items()} == {
        "many": [True, False, False, False],
        "medium": [False, True, True, False],
        "few": [False, False, False, True],
    }


def test_relative_frequencies():
    assert relative_frequencies([3, 1]).tolist() == [0.75, 0.25]


def test_effective_number_weights():
    # 1 / (1 + 1/2) and 1 / 1, scaled to mean 1
    assert effective_number_weights([2, 1], 0.5) == pytest.approx([0.8, 1.2])
    assert effective_number_weights([900, 1], 0).tolist() == [1, 1]
    assert effective_number_weights([300, 100], 1 - 1e-9) == pytest.approx([0.5, 1.5], rel=1e-5)  # inverse frequency
    cifar100 = effective_number_weights(exponential_profile(500, 100, 100), 0.9999)
    assert (cifar100.min(), cifar100.max()) == pytest.approx((0.045, 4.38), rel=0.01)


@pytest.mark.parametrize("beta", [1, -0.1, float("nan")])
def test_bad_beta_is_named(beta):
    with pytest.raises(InputError, match=f"beta is {beta}"):
        effective_number_weights([2, 1], beta)


def test_counts_are_returned_as_int64():
    counts = check_class_counts([5.0, 2])
    assert counts.dtype == np.int64
    assert counts.tolist() == [5, 2]


@pytest.mark.parametrize("bad", [0, -1, 1.5, float("nan"), float("inf")])
def test_bad_count_names_its_class(bad):
    with pytest.raises(InputError, match=rf"class 'truck' .* {bad:g}:"):
        check_class_counts([5, bad], ["cat", "truck"])


@pytest.mark.parametrize("bad", [[5], [], 5, [[1, 2]], "many", None, ["a", "b"]])
def test_counts_of_another_form_are_refused(bad):
    with pytest.raises(InputError, match="class_counts"):
        check_class_counts(bad)


def test_names_and_counts_must_match():
    with pytest.raises(InputError, match="3 entries for 2 class_names"):
        check_class_counts([1, 2, 3], ["a", "b"])


def test_spectral_weights_by_hand():
    assert spectral_weights([80, 20]) == pytest.approx([1, 0.4**-0.5])
    assert spectral_weights([80, 20], r0=0.05) == pytest.approx([0.85**-0.5, 2])
    for r0 in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="r0 is"):
            spectral_weights([80, 20], r0)
