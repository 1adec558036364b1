"""A folder of classes alone is split, and the list of its splits is the same data again."""

import csv
import shutil

import numpy as np
import pytest
from pictures import pets, save

from car_ext.datasets import DataOptions, load
from car_ext.datasets.split_list import split_list
from car_ext.errors import InputError


def plain(root, classes=("ant", "bee", "cow"), counts=(10, 5, 1)):
    """A folder of CLASS/*.png, each picture of another colour."""
    for label, (name, count) in enumerate(zip(classes, counts, strict=True)):
        for number in range(count):
            save(root / name / f"{number}.png", 50 * label, number, 9)
    return root


def of(data):
    return {"train": data.train.files, "val": data.val.files if data.val else (), "test": data.test.files}


def test_a_folder_of_classes_is_split(tmp_path, capsys):
    root = plain(tmp_path / "pets")
    data = load(root)
    assert (data.class_counts.tolist(), np.bincount(data.test.targets).tolist()) == ([8, 4, 1], [2, 1])
    assert {*data.train.files}.isdisjoint(data.test.files)
    assert data.val is None
    assert "3 of 16 images, about 20 % of each class, are its test split" in capsys.readouterr().err
    told = " ".join(data.notes)
    assert "1 of 3 classes has no test image in pets, so no score measures it: 'cow'" in told
    archive = shutil.make_archive(str(tmp_path / "zipped" / "pets"), "zip", root)
    assert of(load(archive)) == of(data)
    (tmp_path / "inside").mkdir()
    root.rename(tmp_path / "inside" / "pets")
    assert [f"pets/{file}" for file in data.test.files] == [*load(tmp_path / "inside").test.files]


def test_the_split_is_of_the_names_not_of_their_order(tmp_path):
    root = plain(tmp_path / "pets")
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.rglob("*.png"))]
    found = []
    for order in (rows, rows[::-1]):
        (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(order))
        found.append({*load(tmp_path / "list.csv", options=DataOptions(root)).test.files})
    assert found[0] == found[1] == {*load(root).test.files}
    assert {*load(root, options=DataOptions(split_seed=1)).test.files} != found[0]


def test_shares_and_validation_images(tmp_path):
    root = plain(tmp_path / "pets", counts=(20, 10, 2))
    data = load(root, options=DataOptions(test_share=0.5, val_share=0.2))
    counts = [np.bincount(split.targets, minlength=3).tolist() for split in (data.train, data.val, data.test)]
    assert counts == [[8, 4, 1], [2, 1, 0], [10, 5, 1]]
    assert "3 validation images of pets are for choices during training" in " ".join(data.notes)
    assert isinstance(data.val.images, np.ndarray)
    again = load(root, options=DataOptions(test_share=0.5))
    assert again.test.files == data.test.files
    assert again.fingerprint != data.fingerprint


def test_a_file_that_a_list_names_twice_is_in_one_split(tmp_path):
    root = plain(tmp_path / "pets")
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in root.rglob("*.png")]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(rows * 2))
    data = load(tmp_path / "list.csv", options=DataOptions(root, test_share=0.5))
    assert data.test.files
    assert {*data.train.files}.isdisjoint(data.test.files)


@pytest.mark.parametrize("classes", [("ant", "bee", "cow"), ("1", "2", "3"), ("0", "1", "2")])
def test_the_list_is_the_same_data(tmp_path, classes):
    root = plain(tmp_path / "pets", classes)
    data = load(root, options=DataOptions(val_share=0.2))
    (tmp_path / "split.csv").write_text(split_list(data))
    again = load(tmp_path / "split.csv", options=DataOptions(root))
    assert of(again) == of(data)
    assert again.class_names == data.class_names
    assert all(np.array_equal(getattr(again, split).targets, getattr(data, split).targets) for split in of(data))
    assert load(tmp_path / "split.csv", splits=("test",), options=DataOptions(root)).test.files == data.test.files
    assert len([*csv.reader((tmp_path / "split.csv").open())]) == 17
    assert split_list(load("digits")) == ""


def test_splits_in_a_column(tmp_path):
    root = plain(tmp_path / "pets")
    text = "path;class;Split\nant/0.png;ant;train\nbee/0.png;bee;training\nant/1.png;ant;VALID\n"
    (tmp_path / "list.csv").write_text(text)
    data = load(tmp_path / "list.csv", options=DataOptions(root))
    assert (data.test.files, data.val) == (("ant/1.png",), None)
    assert f"{tmp_path}/list.csv has no test images, so those of val are the test split" in data.notes
    with pytest.raises(InputError, match="several splits, so it needs no --test-list"):
        load(tmp_path / "list.csv", options=DataOptions(root, tmp_path / "list.csv"))
    (tmp_path / "list.csv").write_text(f"{text}ant/2.png;ant;later\n")
    with pytest.raises(InputError, match=r"line 5 .* has 'later' in the column 'split': write train, val or test"):
        load(tmp_path / "list.csv", options=DataOptions(root))
    (tmp_path / "list.csv").write_text("path;class;split\nant/0.png;ant;test\n")
    with pytest.raises(InputError, match="no row of the training split"):
        load(tmp_path / "list.csv", options=DataOptions(root))


def test_groups_of_a_column_and_of_the_path(tmp_path):
    root = tmp_path / "pets"
    rows = ["path,label,patient"]
    for label, name in enumerate(("ant", "bee")):
        for number in range(20):
            save(root / name / f"p{number // 2:02}-{number}.png", 50 * label, number)
            rows.append(f"{name}/p{number // 2:02}-{number}.png,{name},{number // 2}")
    for number in range(3):
        save(root / "cow" / f"q-{number}.png", 200, number)
        rows.append(f"cow/q-{number}.png,cow,q")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    by_path = load(root, options=DataOptions(groups="/(p[0-9]+|q)-", val_share=0.2))
    by_column = load(tmp_path / "list.csv", options=DataOptions(root, groups="patient", val_share=0.2))
    assert {*by_path.test.files} == {*by_column.test.files}
    patients = [{file.split("/")[1].split("-")[0] for file in files} for files in of(by_path).values()]
    assert sum(map(len, patients)) == len(set.union(*patients))
    assert all(patients)
    assert any("no test image in pets" in note and "'cow'" in note for note in by_path.notes)
    with pytest.raises(InputError, match=r"one group a class \(--groups pets\|/\)"):
        load(root, options=DataOptions(groups="pets|/"))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"test_share": 0.2}, "test images of their own"), ({"val_share": 0.2}, "validation images of their own")],
)
def test_what_the_data_have_is_not_drawn_again(tmp_path, options, words):
    pets(pets(tmp_path), "val", None)
    with pytest.raises(InputError, match=words):
        load(tmp_path, options=DataOptions(**options))


def test_three_folders(tmp_path):
    root = pets(tmp_path / "pets")
    before = load(root).fingerprint
    shutil.copytree(root / "test", root / "val")
    data = load(root)
    assert [len(split) for split in (data.train, data.val, data.test)] == [6, 6, 6]
    assert data.fingerprint != before
    (leak,) = (note for note in data.notes if "too good" in note)
    assert leak.startswith("6 test images are also validation images, which makes scores of pets too good: ")
    shutil.rmtree(root / "val")
    shutil.copytree(root / "train", root / "val")
    (leak,) = (note for note in load(root, cache_bytes=0).notes if "too good" in note)
    assert leak.startswith("6 validation images are also training images, which makes choices by validation images of")
    shutil.rmtree(root / "test")
    data = load(root)
    assert (data.val, len(data.test)) == (None, 6)
    assert f"{root} has no test/, so val/ is the test split" in data.notes


def test_a_class_called_like_a_split(tmp_path):
    root = plain(tmp_path / "vehicles", ("bus", "car", "train"))
    data = load(root)
    assert data.class_names == ("bus", "car", "train")
    assert any("train/ of" in note and "taken for a class" in note for note in data.notes)


def test_a_test_folder_of_another_name_is_not_overlooked(tmp_path):
    root = pets(tmp_path / "pets", test="held-out")
    with pytest.raises(InputError, match=r"has no test/ folder, but held-out/ has .*rename it"):
        load(root)
    assert len(load(root / "train").test) == 2
