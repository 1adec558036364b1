"""Labels of several files mean what their own file says."""

import unicodedata

import pytest

from car_ext.datasets.labels import Classes, Labelled, check_kinds, distinct
from car_ext.errors import InputError

NAMED = Labelled("train", [0, 1], ("cat", "dog"))


def targets(file, *training):
    return Classes(training, training=True).targets(file).tolist()


def test_numbers_go_through_the_names_of_their_file():
    assert targets(Labelled("test", [0, 1, None, 2, -1], ("dog", "cat")), NAMED) == [1, 0, -1, -1, -1]
    assert targets(Labelled("test", [0, 1], ("eel", "cat")), NAMED) == [-1, 0]
    assert targets(Labelled("test", ["dog", "eel"]), NAMED) == [1, -1]
    assert targets(Labelled("test", [1, 0, 2]), NAMED) == [1, 0, -1]


def test_names_of_several_training_files_are_joined():
    classes = Classes([NAMED, Labelled("more", [0], ("eel", "dog"))], training=True)
    assert classes.names == ("cat", "dog", "eel")


def test_text_is_compared_in_composed_form():
    text = Labelled("train", [unicodedata.normalize("NFD", "café"), "bar"])
    assert Classes([text], training=True).names == ("bar", unicodedata.normalize("NFC", "café"))
    assert targets(Labelled("test", [unicodedata.normalize("NFC", "café")]), text) == [1]


def test_numbers_alone():
    assert Classes([Labelled("train", [2, 0, 1])], training=True).names == ("0", "1", "2")
    alone = Labelled("test", [11, 2, 2])
    assert Classes([alone], training=False).names == ("2", "11")
    assert Classes([alone], training=False).targets(alone).tolist() == [1, 0, 0]


def test_kinds():
    text, numbers = Labelled("a.csv", [None, "cat"]), Labelled("b.csv", [0])
    assert [file.kind for file in (text, numbers, NAMED, Labelled("", []))] == ["text", "numbers", "named", ""]
    assert check_kinds([text, NAMED]) == []
    with pytest.raises(InputError, match=r"'a\.csv' are text and those of 'b\.csv' are numbers"):
        check_kinds([numbers, text])
    assert check_kinds([NAMED, numbers]) == [
        "b.csv has labels without names, which are taken for those that train names"
    ]


def test_one_name_of_two_classes():
    assert distinct(["crane", "ant", "crane"]) == ("crane (0)", "ant", "crane (2)")
