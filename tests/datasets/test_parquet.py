"""Parquet folders in the layouts the Hugging Face hub has, written here row group by row group."""

import io
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from pixels import agree

from car_ext.datasets import DataOptions, LazyImages, load
from car_ext.datasets.shards import Shards
from car_ext.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PETS = ["cat", "dog", "eel"]


def png(red):
    buffer = io.BytesIO()
    Image.new("RGB", (6, 6), (red, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def structs(reds):
    return pa.array([{"bytes": png(red), "path": "/etc/passwd"} for red in reds])


def features(**columns):
    """What `datasets` writes: names of classes for a list, Image for None."""
    noted = {
        name: {"_type": "Image"} if names is None else {"names": names, "_type": "ClassLabel"}
        for name, names in columns.items()
    }
    return {b"huggingface": json.dumps({"info": {"features": noted}}).encode()}


def write(path, columns, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=2)


@pytest.fixture
def hub(tmp_path):
    """As `datasets` pushes it: structs, named labels, the training split in two files."""
    noted = features(image=None, label=PETS)
    for number, (reds, labels) in enumerate((((0, 1, 2), (0, 2, 1)), ((3, 4), (0, 1)))):
        columns = {"image": structs(reds), "label": pa.array(labels), "id": pa.array(labels)}
        write(tmp_path / "pets" / "data" / f"train-{number:05}-of-00002.parquet", columns, noted)
    columns = {"image": structs((5, 6, 7)), "label": pa.array((2, 1, 0)), "id": pa.array((0, 0, 0))}
    write(tmp_path / "pets" / "data" / "test-00000-of-00001.parquet", columns, noted)
    return tmp_path / "pets"


def refused(data, *words, **options):
    with pytest.raises(InputError) as error:
        load(data, options=DataOptions(**options))
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_the_layout_of_the_hub(hub):
    data = load(hub)
    assert (data.name, data.class_names, data.image_size, data.channels) == ("pets", tuple(PETS), 6, 3)
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert data.train.targets.tolist() == [0, 2, 1, 0, 1]
    assert data.train.targets.dtype == np.int64
    assert data.test.images[:, 0, 0, 0].tolist() == [5, 6, 7]
    assert data.test.targets.tolist() == [2, 1, 0]
    assert load(hub / "data").train.targets.tolist() == [0, 2, 1, 0, 1]
    assert load(hub, imbalance_ratio=2).train.images[:, 0, 0, 0].tolist() == [0, 3, 2, 1]


def test_lazily_in_any_order_in_threads_and_pickled(hub):
    images = load(hub, cache_bytes=0).train.images
    assert isinstance(images, LazyImages)
    assert [int(images[i][0, 0, 0]) for i in (4, 0, 3, 1, 2)] == [4, 0, 3, 1, 2]
    expected = [images[i] for i in range(5)]
    agree(pickle.loads(pickle.dumps(images)), expected, 1)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(agree, images, expected, 5) for _ in range(4)]:
            done.result()


def test_only_the_test_files_are_needed_to_score(hub):
    for file in (hub / "data").glob("train-*"):
        file.unlink()
    data = load(hub, splits=("test",))
    assert (data.class_names, len(data.train), data.test.targets.tolist()) == (tuple(PETS), 0, [2, 1, 0])
    refused(hub, "test only", "train-*.parquet")


def test_a_file_and_validation_for_want_of_test(tmp_path):
    columns = {"image": structs((1, 2)), "label": pa.array((1, 0))}
    write(tmp_path / "train.parquet", columns)
    write(tmp_path / "validation-00000-of-00001-0123abcd.parquet", columns)
    data = load(tmp_path)
    assert (data.class_names, data.test.targets.tolist()) == (("0", "1"), [1, 0])
    write(tmp_path / "test-0.parquet", {**columns, "label": pa.array((0, 1))})
    assert load(tmp_path).test.targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["dog", "cat", "dog", "eel"]),
        pa.array(["dog", "cat", "dog", "eel"], pa.large_string()),
        pa.array(["dog", "cat", "dog", "eel"]).dictionary_encode(),
        pa.array([1, 0, 1, 2], pa.uint8()),
    ],
)
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), "struct"])
def test_other_columns(tmp_path, labels, kind):
    images = structs(range(4)) if kind == "struct" else pa.array([png(red) for red in range(4)], kind)
    for split in ("train", "test"):
        write(tmp_path / f"{split}-0.parquet", {"picture": images, "kind": labels, "weight": pa.array([0.5] * 4)})
    data = load(tmp_path)
    assert data.class_names == (tuple(PETS) if not pa.types.is_integer(labels.type) else ("0", "1", "2"))
    assert data.train.targets.tolist() == [1, 0, 1, 2]
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_several_label_columns(tmp_path):
    columns = {"img": structs((1, 2)), "fine_label": pa.array((1, 0)), "coarse_label": pa.array((0, 1))}
    noted = features(img=None, fine_label=["a", "b"], coarse_label=["x", "y"])
    for split in ("train", "test"):
        write(tmp_path / f"{split}-0.parquet", columns, noted)
    refused(tmp_path, "fine_label, coarse_label", "--label-column")
    refused(tmp_path, "--label-column fine", label_column="fine")
    refused(tmp_path, "--label-column img", label_column="img")
    data = load(tmp_path, options=DataOptions(label_column="coarse_label"))
    assert (data.class_names, data.train.targets.tolist()) == (("x", "y"), [0, 1])


@pytest.mark.parametrize(
    ("labels", "noted", "words"),
    [
        ((0, -1, 1), ["cat", "dog"], ["row 1", "train-0.parquet", "label -1", "0 to 1"]),
        ((0, 2, 1), ["cat", "dog"], ["row 1", "label 2"]),
        ((0, 3, 1), None, ["row 1", "label 3", "3 classes"]),
        ((0, 10**12, 1), None, ["label 1000000000000"]),
        ((0, None, 1), None, ["row 1", "label None"]),
        (("a", None, "b"), None, ["row 1", "label None"]),
        ((0, 1, 1), ["cat", "dog", "eel"], ["'eel'", "train files"]),
        ((0, 0, 0), None, ["fewer than 2 classes"]),
        ((0.5, 1.0, 2.0), None, ["label column", "none of image, label"]),
    ],
)
def test_bad_labels_are_named(tmp_path, labels, noted, words):
    metadata = features(image=None, label=noted) if noted else None
    for split in ("train", "test"):
        write(tmp_path / f"{split}-0.parquet", {"image": structs((1, 2, 3)), "label": pa.array(labels)}, metadata)
    refused(tmp_path, *words)


def test_labels_that_only_one_split_has(tmp_path):
    write(tmp_path / "train-0.parquet", {"image": structs((1, 2)), "label": pa.array(("a", "b"))})
    write(tmp_path / "test-0.parquet", {"image": structs((1, 2)), "label": pa.array(("a", "c"))})
    refused(tmp_path, "row 1", "test-0.parquet", "'c'")
    write(tmp_path / "test-0.parquet", {"image": structs((1, 2)), "label": pa.array(("a", "a"))})
    assert any("has no test image" in note and "'b'" in note for note in load(tmp_path).notes)


def test_images_are_never_followed_to_another_file(tmp_path):
    rows = [{"bytes": png(1), "path": None}, {"bytes": None, "path": str(tmp_path / "train-0.parquet")}]
    for split in ("train", "test"):
        write(tmp_path / f"{split}-0.parquet", {"image": pa.array(rows), "label": pa.array((0, 1))})
    refused(tmp_path, "row 1", "train-0.parquet", "no bytes")


def test_a_corrupt_image_is_named_by_file_and_row(hub):
    columns = {"image": pa.array([{"bytes": b"x", "path": None}] * 3), "label": pa.array((0, 1, 2))}
    write(hub / "data" / "train-00001-of-00002.parquet", columns)
    refused(hub, "row 0", "train-00001-of-00002.parquet", "no known image format")


def test_missing_and_broken_files(hub, tmp_path):
    second = hub / "data" / "train-00001-of-00002.parquet"
    content = second.read_bytes()
    second.unlink()
    refused(hub, "train-00000-of-00002.parquet", "one of 2 files, but 1 are there")
    second.write_bytes(b"PAR1" + content[4:-30])
    refused(hub, str(second), "cannot be read")
    write(second, {"image": structs((1,)), "kind": pa.array((0,))})
    refused(hub, str(second), "no column 'label'")
    second.write_bytes(content)
    write(hub / "other" / "train-0.parquet", {"image": structs((1,)), "label": pa.array((0,))})
    refused(hub, "data/, other/", "give one of them")
    (hub / "other" / "train-0.parquet").unlink()
    (tmp_path / "outside.parquet").write_bytes(content)
    second.unlink()
    second.symlink_to(tmp_path / "outside.parquet")
    refused(hub, str(second), "leads outside")


@pytest.mark.parametrize("noted", [b"{", b"[]", b'{"info": {"features": 3}}', b'{"info": {"features": {"label": 3}}}'])
def test_other_metadata_is_ignored(tmp_path, noted):
    for split in ("train", "test"):
        columns = {"image": structs((1, 2)), "label": pa.array((0, 1))}
        write(tmp_path / f"{split}-0.parquet", columns, {b"huggingface": noted})
    assert load(tmp_path).class_names == ("0", "1")


def test_an_image_folder_is_none_of_this(tmp_path):
    for part in ("train", "test"):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            Image.new("RGB", (6, 6)).save(tmp_path / part / label / "0.png")
            (tmp_path / part / label / "notes.parquet").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "train-0.parquet").write_bytes(b"x")
    assert load(tmp_path).class_names == ("a", "b")


def test_without_pyarrow_or_with_one_that_unpickles(hub, monkeypatch):
    monkeypatch.setattr(pa, "__version__", "14.0.0")
    refused(hub, "14.0.0", "pip install")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(hub, "needs pyarrow: pip install pyarrow")


def test_rows_are_counted_over_files(hub):
    folder = load(hub, cache_bytes=0).train.images.source
    assert isinstance(folder, Shards)
    assert len(folder) == 5
    assert folder.locate(4).startswith("row 1 of ")
    assert folder.locate(2).startswith("row 2 of ")


def shard(path, labels, names=None, first=0):
    """A file of as many different pictures as labels, whose numbers are named or not."""
    reds = range(first, first + len(labels))
    columns = {"image": structs(reds), "label": pa.array(labels)}
    write(path, columns, features(image=None, label=names) if names else None)


def test_every_file_means_its_own_names(tmp_path):
    shard(tmp_path / "train-00000-of-00002.parquet", (0, 1), ["cat", "dog"])
    shard(tmp_path / "train-00001-of-00002.parquet", (0, 1), ["dog", "cat"], 2)
    shard(tmp_path / "test-0.parquet", (0, 0, 1), ["dog", "cat"], 4)
    data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.train.targets.tolist() == [0, 1, 1, 0]
    assert data.test.targets.tolist() == [1, 1, 0]


def test_text_beside_named_numbers(tmp_path):
    shard(tmp_path / "train-0.parquet", (0, 1), ["dog", "cat"])
    shard(tmp_path / "test-0.parquet", ("cat", "dog"), first=2)
    assert load(tmp_path).test.targets.tolist() == [1, 0]


@pytest.mark.parametrize(("train", "test"), [(("cat", "dog"), (0, 1)), ((0, 1), ("0", "1"))])
def test_text_against_numbers_is_refused(tmp_path, train, test):
    shard(tmp_path / "train-0.parquet", train)
    shard(tmp_path / "test-0.parquet", test, first=2)
    refused(tmp_path, "train-0.parquet", "test-0.parquet", "are text", "are numbers")


def test_every_file_holds_labels(tmp_path):
    shard(tmp_path / "train-0.parquet", (0, 1))
    shard(tmp_path / "test-0.parquet", (1.0, 0.0), first=2)
    refused(tmp_path, "'label'", "test-0.parquet", "double")


def test_numbers_that_only_some_files_name_are_told(tmp_path):
    shard(tmp_path / "train-0.parquet", (0, 1), ["cat", "dog"])
    shard(tmp_path / "test-0.parquet", (1, 0), first=2)
    data = load(tmp_path)
    assert data.test.targets.tolist() == [1, 0]
    assert any("test-0.parquet has labels without names" in note for note in data.notes)


def test_one_name_of_two_classes_is_two_classes(tmp_path):
    for split, first in (("train", 0), ("test", 3)):
        shard(tmp_path / f"{split}-0.parquet", (0, 1, 2), ["crane", "ant", "crane"], first)
    assert load(tmp_path).class_names == ("crane (0)", "ant", "crane (2)")


@pytest.mark.parametrize("missing", [-1, None])
def test_a_test_split_without_labels_leaves_it_to_the_validation_split(tmp_path, missing):
    shard(tmp_path / "train-0.parquet", (0, 1), ["cat", "dog"])
    shard(tmp_path / "test-0.parquet", pa.array([missing, missing], pa.int64()), ["cat", "dog"], 2)
    refused(tmp_path, "labels of the test files", "missing or -1", "validation-*.parquet")
    shard(tmp_path / "validation-0.parquet", (1, 0, 1), ["cat", "dog"], 4)
    data = load(tmp_path)
    assert data.test.targets.tolist() == [1, 0, 1]
    assert f"2 test images of {tmp_path} not taken: they have no labels" in data.notes


@pytest.mark.parametrize("folder", ["default/", "", "data/Default/"])
def test_a_folder_of_each_split(tmp_path, folder):
    for split, first in (("train", 0), ("test", 2), ("validation", 4)):
        shard(tmp_path / f"{folder}{split}" / "0000.parquet", (0, 1), ["cat", "dog"], first)
    data = load(tmp_path / "data" if folder.startswith("data") else tmp_path)
    assert data.test.images[:, 0, 0, 0].tolist() == [2, 3]
    assert data.val.images[:, 0, 0, 0].tolist() == [4, 5]


@pytest.mark.parametrize("held_out", ["val", "valid", "Testing"])
def test_splits_by_other_names(tmp_path, held_out):
    shard(tmp_path / "Training-0.parquet", (0, 1))
    shard(tmp_path / f"{held_out}.parquet", (1, 0), first=2)
    assert load(tmp_path).test.targets.tolist() == [1, 0]


def test_only_training_files_and_files_of_no_split(tmp_path):
    shard(tmp_path / "train-0.parquet", (0, 1))
    shard(tmp_path / "extra.parquet", (0, 1), first=2)
    refused(tmp_path, "one training image a class")
    data = load(tmp_path, splits=("test",))
    assert (data.whole, data.test.targets.tolist()) == (True, [0, 1])
    data = load(tmp_path, splits=("train",), options=DataOptions(test_share=0))
    assert (data.class_counts.tolist(), len(data.test)) == ([1, 1], 0)
    assert f"1 file of {tmp_path} not taken: 1 .parquet of no split" in data.notes


def test_a_test_split_alone_may_lack_classes(tmp_path):
    shard(tmp_path / "test-0.parquet", (0, 2))
    data = load(tmp_path, splits=("test",))
    assert (data.class_names, data.test.targets.tolist()) == (("0", "2"), [0, 1])
