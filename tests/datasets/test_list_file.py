"""Images named by a list file: lines as the field writes them, and every way in which one can be wrong."""

import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pixels import agree

from car_ext.cli.flags import parse
from car_ext.datasets import DataOptions, LazyImages, load
from car_ext.datasets.sources.list_file import read_list
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError
from car_ext.evaluation.evaluate import evaluate
from car_ext.training.train import train

FILES = ["train/a/0.png", "train/a/1.png", "train/my dog/a b.png", "train/b/0.png", "val/0.png", "val/1.png"]


@pytest.fixture
def root(tmp_path):
    """Six images, told apart by their colour."""
    for number, file in enumerate(FILES):
        path = tmp_path / "photos" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def lists(root):
    """Writes both lists beside the images' folder and loads them."""

    def lists(train_text, test_text="val/0.png 0\nval/1.png 1\n", **options):
        folder = root.parent
        (folder / "mine.txt").write_text(train_text, encoding="utf-8")
        (folder / "test.txt").write_text(test_text, encoding="utf-8")
        where = DataOptions(data_root=root, test_list=folder / "test.txt")
        return load(folder / "mine.txt", options=where, **options)

    return lists


TRAIN = "train/a/0.png 0\ntrain/my dog/a b.png 1\ntrain/a/1.png 0\ntrain/b/0.png 1\n"


def test_lists(lists):
    data = lists(TRAIN)
    assert (data.name, data.class_names, data.image_size, data.channels) == ("mine", ("0", "1"), 8, 3)
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 2, 1, 3]
    assert data.train.targets.tolist() == [0, 1, 0, 1]
    assert data.train.targets.dtype == np.int64
    assert data.test.images[:, 0, 0, 0].tolist() == [4, 5]


def test_images_are_read_when_asked_for(lists, root):
    (root / "train" / "b" / "0.png").write_bytes(b"broken")
    train = lists(TRAIN, cache_bytes=0).train
    assert isinstance(train.images, LazyImages)
    assert train.images[1][0, 0, 0] == 2
    agree(pickle.loads(pickle.dumps(train.images)), [train.images[i] for i in range(3)], 1)
    with pytest.raises(InputError, match=r"b/0\.png"):
        train.images[3]


@pytest.mark.parametrize(
    "text",
    [
        TRAIN.replace("\n", "\r\n"),
        "\n" + TRAIN.replace("\n", "\n\n"),
        "\N{BYTE ORDER MARK}" + TRAIN,
        TRAIN.replace(".png ", ".png\t "),
        TRAIN.replace("\n", "  \n").rstrip(),
        TRAIN.replace("png 1", "png 001"),
    ],
)
def test_whitespace_does_not_matter(lists, text):
    assert lists(text).train.images[:, 0, 0, 0].tolist() == [0, 2, 1, 3]


@given(
    st.lists(
        st.text(
            st.characters(exclude_characters="/\\\0\n\r:", exclude_categories=["Cs"]), min_size=1, max_size=9
        ).filter(lambda name: name.strip() and name.rstrip() == name and set(name) != {"."}),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
@settings(deadline=None, max_examples=40)
def test_any_file_name_comes_back(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    for name in names:
        (folder / f"_{name}").write_bytes(b"")
    text = "".join(f"_{name} {label}\n" for label, name in enumerate(names))
    (folder / "list").write_text(text, encoding="utf-8")
    files, labels = read_list(folder / "list", FolderTree(folder))
    assert files == [f"_{name}" for name in names]
    assert labels.tolist() == list(range(len(names)))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train/a/0.png", ["'train/a/0.png'", "a label"]),
        ("1", ["'1'", "a path"]),
        ("train/my dog.png", ["'dog.png'", "whole number"]),
        ("train/a/0.png one", ["'one'", "whole number"]),
        ("train/a/0.png 1.0", ["'1.0'", "whole number"]),
        ("train/a/0.png -1", ["'-1'", "whole number"]),
        ("train/a/0.png 1_0", ["'1_0'", "whole number"]),
        ("train/a/0.png \N{SUPERSCRIPT TWO}", ["whole number"]),
        ("train/a/0.png " + "9" * 5000, ["whole number"]),
        ("train/a/0.png 3", ["label 3", "no line has label 2", "gap"]),
        ("train/a/0.png 999999999", ["label 999999999", "no line has label 2"]),
        ("train/a/7.png 1", ["'train/a/7.png'", "does not exist", "--data-root"]),
        ("train/a 1", ["'train/a'", "is no file"]),
        ("train/\0.png 1", ["does not exist"]),
        ("../photos/train/a/0.png 1", ["leaves its folder"]),
        ("train/../train/a/0.png 1", ["leaves its folder"]),
        ("/etc/passwd 1", ["'/etc/passwd'", "absolute"]),
        ("C:/a.png 1", ["absolute"]),
        ("train\\a\\0.png 1", ["leaves its folder"]),
    ],
)
def test_a_bad_line_is_named(lists, line, words):
    with pytest.raises(InputError) as error:
        lists(f"{TRAIN}{line}\n")
    assert all(word in str(error.value) for word in ["line 5 of", "mine.txt", *words]), error.value
    with pytest.raises(InputError, match=r"line 3 of .*test\.txt"):
        lists(TRAIN, f"val/0.png 0\nval/1.png 1\n{line}\n")


@pytest.mark.parametrize("link", ["file", "folder", "loop", "dangling"])
def test_a_link_may_not_leave_the_root(lists, root, link):
    outside = root.parent / "outside"
    outside.mkdir()
    Image.new("RGB", (8, 8)).save(outside / "x.png")
    if link == "folder":
        (root / "away").symlink_to(outside)
    else:
        (root / "away").mkdir()
        target = {"file": outside / "x.png", "loop": root / "away" / "x.png", "dangling": outside / "gone"}[link]
        (root / "away" / "x.png").symlink_to(target)
    with pytest.raises(InputError, match=r"line 5 of .*'away/x\.png' (leads through a link outside|does not exist)"):
        lists(f"{TRAIN}away/x.png 0\n")


def test_a_link_inside_the_root_is_followed(lists, root):
    (root / "again").symlink_to(root / "train" / "b")
    (root / "c.png").symlink_to(root / "again" / "0.png")
    data = lists(f"{TRAIN}again/0.png 0\nc.png 0\n")
    assert data.train.images[-2:, 0, 0, 0].tolist() == [3, 3]


def test_a_root_that_is_itself_a_link(root):
    (root.parent / "link").symlink_to(root)
    (root / "list.txt").write_text("val/0.png 0\nval/1.png 1\n")
    options = DataOptions(data_root=root.parent / "link")
    assert len(load(root / "list.txt", splits=("test",), options=options).test) == 2


def test_every_class_needs_training_images(lists):
    data = lists(f"{TRAIN}train/a/1.png 2\n")
    assert data.num_classes == 3
    assert "1 of 3 classes has no test image in mine, so no score measures it: '2'" in data.notes
    with pytest.raises(InputError, match=r"mine\.txt' has no image of class 2"):
        lists(TRAIN, "val/0.png 0\nval/1.png 1\nval/1.png 2\n")


def test_unusable_lists(lists, root):
    with pytest.raises(InputError, match=r"mine\.txt' is empty"):
        lists("\n \n")
    (root / "latin.txt").write_bytes("train/\xe4.png 0\n".encode("latin-1"))
    for name, words in (("latin.txt", "decode"), ("gone.txt", "No such file")):
        with pytest.raises(InputError, match=f"{name}' cannot be read .*{words}"):
            load(root / name, splits=("test",), options=DataOptions(data_root=root))
    (root / "mine.txt").write_text(TRAIN)
    with pytest.raises(InputError, match="needs --data-root"):
        load(root / "mine.txt", splits=("test",))
    with pytest.raises(InputError, match="nowhere' does not exist"):
        load(root / "mine.txt", splits=("test",), options=DataOptions(data_root=root / "nowhere"))


def test_a_list_may_be_cut(lists):
    text = "".join(f"{file} {label}\n" for label in (0, 1) for file in FILES[:4])
    data = lists(text, imbalance_ratio=2)
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 0, 1]


def test_a_run_on_lists_is_scored_on_the_test_list(lists, root):
    lists(TRAIN)
    folder = root.parent
    flags = f"--data {folder}/mine.txt --data-root {root} --test-list {folder}/test.txt --epochs 1 --out {folder}/run"
    summary = train(parse(flags.split()), progress=False)
    assert summary["data"] == "mine"
    assert summary["class_counts"] == {"0": 2, "1": 2}

    options = DataOptions(data_root=root)
    scores, findings, _ = evaluate(folder / "run", str(folder / "test.txt"), options=options, progress=False)
    assert (scores["images"], scores["data"], findings.confusion.counts.sum()) == (2, "test", 2)
    both = DataOptions(data_root=root, test_list=Path(folder / "test.txt"))
    again, *_ = evaluate(folder / "run", str(folder / "mine.txt"), options=both, progress=False)
    assert scores["overall_accuracy"] == again["overall_accuracy"] == summary["overall_accuracy"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-8-sig"])
def test_a_mark_says_the_encoding(lists, root, encoding):
    lists(TRAIN)
    mark = {"utf-16-be": b"\xfe\xff", "utf-16-le": b"\xff\xfe"}.get(encoding, b"")
    (root.parent / "mine.txt").write_bytes(mark + TRAIN.encode(encoding))
    data = load(root.parent / "mine.txt", options=DataOptions(root, root.parent / "test.txt"))
    assert data.train.targets.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TRAIN.encode("utf-16-le"), ["every other byte is 0", "UTF-16", "save it as UTF-8"]),
        (
            TRAIN.encode() + "café.png 0".encode("latin-1"),
            ["line 5", "0xe9", "another encoding", "as UTF-8"],
        ),
    ],
)
def test_another_encoding_is_named(lists, root, content, words):
    lists(TRAIN)
    (root.parent / "mine.txt").write_bytes(content)
    with pytest.raises(InputError) as error:
        load(root.parent / "mine.txt", options=DataOptions(root, root.parent / "test.txt"))
    assert all(word in str(error.value) for word in ["mine.txt", *words]), error.value


def test_backslashes_are_told_from_paths_that_leave(lists):
    with pytest.raises(InputError, match=r"backslashes.*write forward slashes"):
        lists(TRAIN.replace("/", "\\"))


@pytest.mark.parametrize(("here", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_paths_are_found_in_either_spelling(lists, root, here, there):
    here, there = (unicodedata.normalize(form, "café.png") for form in (here, there))
    Image.new("RGB", (8, 8), (77, 0, 0)).save(root / here)
    data = lists(f"{TRAIN}{there} 0\n")
    assert data.train.images[-1, 0, 0, 0] == 77


def test_images_that_are_listed_several_times_are_counted(lists, root):
    notes = lists(f"{TRAIN}train/a/0.png 0\ntrain/a/0.png 0\ntrain/a/1.png 1\n").notes
    mine = root.parent / "mine.txt"
    assert f"1 image has several labels in {mine}: 'train/a/1.png (0, 1)'" in notes
    assert f"2 lines repeat earlier ones in {mine}: an image counts as often as it is listed" in notes


def test_a_test_list_of_training_images_is_refused(lists):
    with pytest.raises(InputError, match=r"mine\.txt' and '.*test\.txt' name the same images"):
        lists(TRAIN, "".join(reversed(TRAIN.splitlines(keepends=True))))
    notes = lists(TRAIN, "val/0.png 0\ntrain/b/0.png 1\n").notes
    assert any(note.startswith("1 test image is also a training image") and "b/0.png" in note for note in notes)


def test_a_training_list_alone(lists, root):
    lists(TRAIN)
    options = DataOptions(data_root=root, test_share=0)
    data = load(root.parent / "mine.txt", splits=("train",), options=options)
    assert (data.class_counts.tolist(), len(data.test)) == ([2, 2], 0)
    with pytest.raises(InputError, match=r"nothing could be scored.*--holdout"):
        load(root.parent / "mine.txt", options=options)


def test_a_test_list_alone_may_lack_classes(root):
    (root / "test.txt").write_text("val/0.png 11\nval/1.png 2\n")
    data = load(root / "test.txt", splits=("test",), options=DataOptions(data_root=root))
    assert (data.class_names, data.test.targets.tolist()) == (("2", "11"), [1, 0])


def test_a_home_that_is_not_known(lists, root):
    lists(TRAIN)
    with pytest.raises(InputError, match=r"'~nobody-of-this-name' begins with .* not known here"):
        load(root.parent / "mine.txt", options=DataOptions("~nobody-of-this-name", root.parent / "test.txt"))
