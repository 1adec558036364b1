"""Tables of images with labels in text or numbers, as users keep them."""

import pytest
from pictures import save

from car_ext.datasets import DataOptions, load
from car_ext.errors import InputError


@pytest.fixture
def tables(tmp_path):
    """Writes both tables beside six images and loads them."""
    for number in range(6):
        save(tmp_path / "photos" / f"{number}, a.png", number)

    def tables(train, test=None, column=None, **options):
        (tmp_path / "mine.csv").write_text(train, encoding="utf-8")
        (tmp_path / "test.csv").write_text(test or 'path,label\n"4, a.png",bee\n"5, a.png",ant\n', encoding="utf-8")
        where = DataOptions(tmp_path / "photos", tmp_path / "test.csv", column)
        return load(tmp_path / "mine.csv", options=where, **options)

    return tables


@pytest.mark.parametrize(
    "text",
    [
        'path,label\n"0, a.png",bee\n"1, a.png",ant\n',
        "id;Class;File\n7;bee;0, a.png\n8;ant;1, a.png\n",
        "image\tcategory\n0, a.png\tbee\n\n1, a.png\tant\n",
        '"0, a.png",bee\n"1, a.png",ant\n',
        '\N{BYTE ORDER MARK}filename, label\r\n"0, a.png", bee\r\n"1, a.png", ant\r\n',
    ],
)
def test_tables(tables, text):
    data = tables(text)
    assert (data.name, data.class_names) == ("mine", ("ant", "bee"))
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1]
    assert data.train.targets.tolist() == [1, 0]
    assert data.test.targets.tolist() == [1, 0]


def test_numbers(tables):
    data = tables('path,label\n"0, a.png",1\n"1, a.png",0\n', 'path,label\n"4, a.png",1\n')
    assert data.class_names == ("0", "1")
    assert "1 of 2 classes has no test image in mine, so no score measures it: '0'" in data.notes


def test_another_column(tables):
    text = 'path,kind,label\n"0, a.png",a,x\n"1, a.png",b,x\n'
    assert tables(text, text.replace("0,", "4,").replace("1,", "5,"), "kind").class_names == ("a", "b")


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ('path,label\n"0, a.png",0\n', ["mine.csv' are numbers", "test.csv' are text"]),
        (
            'path,label\n"0, a.png",ant\n',
            ["line 2 of", "has label bee", "mine.csv' has no image of class bee"],
        ),
        ('path,label\n"0, a.png",\n', ["line 2 of", "must hold a path and a label"]),
        ('path,label\n"0, a.png"\n', ["line 2 of", "must hold a path and a label"]),
        ('path,label\n"9, a.png",ant\n', ["line 2 of", "does not exist"]),
        ("path,label\n../x.png,ant\n", ["line 2 of", "leaves its folder"]),
        ('path,kind\n"0, a.png",ant\n', ["the columns path, kind", "the label", "--label-column"]),
        ('a,b,label\n"0, a.png",ant,x\n', ["the columns a, b, label", "the path"]),
        ("", ["is empty", "path,label"]),
        ("path,label\n", ["is empty"]),
    ],
)
def test_what_is_wrong_is_named(tables, train, words):
    with pytest.raises(InputError) as error:
        tables(train)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)
