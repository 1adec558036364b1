"""What is set aside: whole groups, and never all of a class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from car_ext.datasets import draw
from car_ext.datasets.draw import by_class, drawn, drawn_counts, drawn_groups, group_numbers
from car_ext.datasets.split import Split
from car_ext.errors import InputError


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
)
@settings(deadline=None)
def test_groups_stay_whole_and_every_class_keeps_one(images, share, seed):
    targets, groups = np.array(images).T
    held = drawn_groups(targets, groups, share, seed)
    kept = np.setdiff1d(np.arange(len(images)), held)
    assert not {*groups[held]} & {*groups[kept]}
    assert {*targets[kept]} == {*targets}


def test_about_the_share_of_each_class_is_taken():
    targets, groups = np.tile([0, 0, 0, 1], 100), np.arange(400) // 4
    assert np.bincount(targets[drawn_groups(targets, groups, 0.2)]).tolist() == [60, 20]
    assert np.bincount(targets[drawn_groups(targets, groups, 0.3)]).tolist() == [90, 30]
    assert drawn_groups(targets, groups, 0.2, 1).tolist() != drawn_groups(targets, groups, 0.2).tolist()


def test_the_choice_is_that_of_every_version():
    assert drawn(np.repeat([0, 1], [6, 4]), 2, 0.34).tolist() == [2, 5, 9]
    assert drawn_counts(np.array([0, 1, 2, 10]), 0.2).tolist() == [0, 0, 1, 2]


def test_positions_by_class_are_those_of_a_look_at_every_class():
    targets = np.random.default_rng(0).integers(0, 50, 400) * 2  # half of the classes have none
    found = by_class(targets, 101)
    assert len(found) == 101
    assert all((found[label] == np.flatnonzero(targets == label)).all() for label in range(101))


def test_too_many_groups_of_too_many_classes_are_refused(monkeypatch):
    monkeypatch.setattr(draw, "MOST_PAIRS", 19)
    with pytest.raises(InputError, match="10 groups of 2 classes"):
        drawn_groups(np.arange(40) % 2, np.arange(40) // 4 * 7, 0.2)


def named(*files, groups=()):
    return Split(np.zeros((len(files), 1, 1, 1), np.uint8), np.zeros(len(files), np.int64), files, groups)


def test_what_names_a_group():
    files = ("b/p2-1.png", "a/p1-1.png", "b/p1-2.png")
    assert group_numbers(named(*files), r"(p\d)-").tolist() == [1, 0, 0]
    assert group_numbers(named(*files), r"p\d").tolist() == [1, 0, 0]
    assert group_numbers(named(*files, groups=("x", "x", "w")), "patient").tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("split", "groups", "words"),
    [
        (named("a.png", "p1.png"), r"p\d", "finds nothing in 'a.png'"),
        (named("a.png"), "(", "no regular expression"),
        (named("a.png", "b.png", groups=("x", "")), "patient", "'b.png' has no group"),
        (named(), "x", "no files"),
    ],
)
def test_an_image_without_a_group_is_named(split, groups, words):
    with pytest.raises(InputError, match=words):
        group_numbers(split, groups)
