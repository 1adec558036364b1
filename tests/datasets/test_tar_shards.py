"""Tar shards: what the package webdataset writes is read, and read as that package reads it."""

import io
import itertools
import json
import multiprocessing
import pickle
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from pixels import agree

from car_ext.datasets import DataOptions, LazyImages, load
from car_ext.datasets.tars import Tars, members
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError


def image(red, form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (6, 6), (red, 0, 0)).save(buffer, form)
    return buffer.getvalue()


def write(path, files):
    """A shard of (name, content); the content may be a TarInfo for what is no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(labels, first=0, ending="cls"):
    """Two members a label: an image whose red value is its number, and the label."""
    formats = {"cls": str, "txt": "{}\n".format, "json": lambda label: json.dumps({"label": label})}
    return [
        member
        for red, label in enumerate(labels, first)
        for member in ((f"{red:04}.png", image(red)), (f"{red:04}.{ending}", formats[ending](label).encode()))
    ]


@pytest.fixture
def shards(tmp_path):
    root = tmp_path / "shards"
    write(root / "pets-train-000000.tar", samples([0, 1, 0]))
    write(root / "pets-train-000001.tar", samples([2, 0], 3))
    write(root / "pets-test-000000.tar", samples([2, 1, 0], 5))
    return root


def refused(data, *words, **options):
    with pytest.raises(InputError) as error:
        load(data, options=DataOptions(**options))
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def reds(split):
    return [int(split.images[i][0, 0, 0]) for i in range(len(split))]


def test_shards(shards):
    data = load(shards)
    assert (data.name, data.class_names, data.image_size, data.notes) == ("shards", ("0", "1", "2"), 6, ())
    assert (reds(data.train), data.train.targets.tolist()) == ([0, 1, 2, 3, 4], [0, 1, 0, 2, 0])
    assert (reds(data.test), data.test.targets.tolist()) == ([5, 6, 7], [2, 1, 0])
    assert data.train.files[3] == "pets-train-000001.tar/0003.png"
    assert reds(load(shards, imbalance_ratio=3).train) == [0, 2, 4, 1, 3]
    assert load(shards, splits=("test",)).test.targets.tolist() == [2, 1, 0]
    assert load(shards, cache_bytes=0, options=DataOptions(val_share=0.3)).val is not None


@pytest.mark.parametrize("maxcount", [3, 100])
def test_as_webdataset_writes_and_reads_them(maxcount, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    random, root = np.random.default_rng(0), tmp_path / "written"
    root.mkdir()
    with webdataset.ShardWriter(str(root / "train-%06d.tar"), maxcount=maxcount, verbose=0) as writer:
        for number in range(8):
            pixels = random.integers(0, 256, (9, 9, 3), np.uint8)
            writer.write({"__key__": f"images/a.b/{number:03}", "png": pixels, "cls": number % 3, "note.txt": "x"})
    urls = sorted(map(str, root.iterdir()))
    expected = [*webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("png", "cls", "__key__")]
    data = load(root, cache_bytes=0, options=DataOptions(test_share=0), splits=("train",))
    assert len(expected) == len(data.train) == 8
    for position, (pixels, label, _) in enumerate(expected):
        assert (data.train.images[position] == pixels).all()
        assert data.train.targets[position] == label
    assert any("note.txt" in note for note in data.notes)


@pytest.mark.parametrize("ending", ["cls", "txt", "json"])
@pytest.mark.parametrize("names", [(0, 1), ("cat", "dögs")])
def test_labels(ending, names, tmp_path):
    write(tmp_path / "train-0.tar", samples([names[1], names[0], names[1]], ending=ending))
    write(tmp_path / "val-0.tar", samples([names[0]], 3, ending=ending))
    data = load(tmp_path)
    assert data.class_names == tuple(map(str, names))
    assert data.train.targets.tolist() == [1, 0, 1]
    assert data.test.targets.tolist() == [0]
    assert any("the validation shards are the test split" in note for note in data.notes)


def test_a_label_of_json(tmp_path):
    facts = [json.dumps({"label": "x", "family": family, "n": 1.5}).encode() for family in ("b", "a", "b", "a")]
    files = [((f"{i}.png", image(i)), (f"{i}.cls", b"0"), (f"{i}.json", fact)) for i, fact in enumerate(facts)]
    path = write(tmp_path / "train-0.tar", itertools.chain(*files))
    data = load(path, options=DataOptions(label_column="family", test_share=0), splits=("train",))
    assert (data.class_names, data.train.targets.tolist()) == (("a", "b"), [1, 0, 1, 0])
    refused(path, "no label among 'label'", "--label-column", label_column="genus")
    refused(path, "label 1.5", "whole number", label_column="n")


@pytest.mark.parametrize("layout", ["one file", "no split", "folders"])
def test_layouts(layout, tmp_path):
    if layout == "folders":
        write(tmp_path / "Training" / "000000.tar", samples([0, 1, 0, 1]))
        write(tmp_path / "test" / "000000.tar", samples([0, 1], 4))
        assert load(tmp_path).class_counts.tolist() == [2, 2]
        return
    path = write(tmp_path / "pets-00.tar", samples([0, 1, 0, 1]))
    data = load(path if layout == "one file" else tmp_path)
    assert data.whole
    assert (len(data.train), len(data.test)) == (2, 2)


def test_order_is_that_of_the_numbers(tmp_path):
    for number in range(12):
        write(tmp_path / f"train-{number}.tar", samples([number % 2], number))
    data = load(tmp_path, options=DataOptions(test_share=0), splits=("train",))
    assert reds(data.train) == [*range(12)]


def test_what_is_not_taken_is_said(shards):
    link, device = tarfile.TarInfo("0009.png"), tarfile.TarInfo("null")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    more = [("0008.png", image(8)), ("0010.cls", b"1"), ("x/.hid/1.png", b"x"), ("a.npy", b"x"), ("._0001.png", b"x")]
    write(shards / "pets-train-000001.tar", [*samples([2, 0], 3), *more, ("", link), ("", device)])
    write(shards / "other-000000.tar", [])
    (shards / "README.md").write_text("x")
    data = load(shards)
    assert reds(data.train) == [0, 1, 2, 3, 4]
    notes = "\n".join(data.notes)
    for words in (
        "1 image in the train shards",
        "no .cls",
        "2 link or device",
        "1 label without an image",
        "1 hidden",
        "1 .npy",
        "1 .tar of no split",
        "1 .md",
    ):
        assert words in notes, notes
    assert "5 files of" in notes


@pytest.mark.parametrize("name", ["../0.png", "/etc/0.png", "a/../../0.png", "C:/0.png", "a\\..\\0.png"])
def test_unsafe_paths_are_refused(name, shards):
    write(shards / "pets-train-000001.tar", [(name, image(0))])
    refused(shards, "unsafe path", repr(name))


@pytest.mark.parametrize("ending", ["pyd", "pickle", "pkl", "meta.pyd", "PTH"])
def test_pickles_are_refused_unread(ending, shards, monkeypatch):
    class Explodes:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    write(shards / "pets-test-000000.tar", [*samples([0]), (f"0000.{ending}", pickle.dumps(Explodes()))])
    refused(shards, f"0000.{ending}", "a pickle")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "pets-train-000000.tar").unlink(), ["label 2", "but the 2 classes"]),
        (lambda root: (root / "pets-train-000001.tar").rename(root / "pets-train-000002.tar"), ["from 0 to 2 once"]),
        (lambda root: (root / "pets-train-000001.tar").rename(root / "pets-train-1-of-3.tar"), ["is one of 3"]),
        (lambda root: write(root / "dogs-train-0.tar", []), ["several names for the train split", "dogs-train-*.tar"]),
        (lambda root: write(root / "train-test-0.tar", []), ["several splits"]),
        (lambda root: write(root / "pets-train-000002.tar.gz", []), ["compressed", "gunzip"]),
        (lambda root: (root / "pets-train-000001.tar").write_bytes(b"x" * 1000), ["cannot be read", "fetch it again"]),
        (lambda root: write(root / "pets-train-000001.tar", samples([4], 3)), ["label 4", "but the 3 classes"]),
        (lambda root: write(root / "pets-test-000000.tar", samples([3], 3)), ["0003.png", "label 3"]),
        (lambda root: write(root / "pets-test-000000.tar", samples([-1], 3)), ["0003.cls", "-1", "from 0"]),
        (lambda root: write(root / "pets-test-000000.tar", samples(["cat"], 3)), ["label '"]),
        (lambda root: write(root / "pets-test-000000.tar", samples([""], 3)), ["0003.cls", "holds no label"]),
        (lambda root: write(root / "pets-test-000000.tar", [("0.png", image(0)), ("0.cls", b"\xff")]), ["UTF-8"]),
        (lambda root: write(root / "pets-test-000000.tar", [("0.png", b""), ("0.jpg", b"")]), ["two images of one"]),
        (lambda root: [p.unlink() for p in root.glob("*train*")], ["it needs train-*.tar"]),
    ],
)  # fmt: skip
def test_refusals(change, words, shards):
    change(shards)
    refused(shards, *words)


def test_no_labels_at_all(tmp_path):
    refused(write(tmp_path / "train-0.tar", [("0.png", image(0))]), "has a label beside it")
    refused(write(tmp_path / "train-0.tar", [("0.cls", b"0")]), "hold no images")


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9, 0.97])
def test_a_shard_that_is_cut_short_is_refused(kept, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    files = [("0.cls", b"0"), ("1.cls", b"1"), ("0.png", image(0)), ("1.png", buffer.getvalue())]
    path = write(tmp_path / "train-0.tar", files)
    data = path.read_bytes()
    end = data.rindex(b"IEND") + 4
    path.write_bytes(data[: round(kept * end)])
    refused(path, "cannot be read", "fetch it again")


def test_a_shard_that_changes_after_it_was_listed_is_refused(shards):
    data = load(shards, cache_bytes=0)
    write(shards / "pets-train-000001.tar", samples([0, 2], 3))
    assert data.train.images[2][0, 0, 0] == 2
    with pytest.raises(InputError, match="changed since it was listed"):
        data.train.images[3]


def test_a_folder_of_photos_stays_one(tmp_path):
    for name, i in itertools.product(("ant", "bee"), range(3)):
        (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name / f"{i}.png").write_bytes(image(i))
    write(tmp_path / "backup-1.tar", [])
    write(tmp_path / "train" / "backup-1.tar", [])
    assert load(tmp_path).class_names == ("ant", "bee")


def test_members_are_at_their_places(shards):
    """Against `tarfile`, which extracts; long names and those that are no ASCII have headers of their own."""
    names = ["a" * 150 + "/" + "b" * 150 + ".png", "grün/ä.png", "plain.png"]
    path = write(shards / "pets-train-000000.tar", [(name, image(red)) for red, name in enumerate(names)])
    found, others = members(FolderTree(shards), [path.name], 0)
    source = Tars(FolderTree(shards), [path.name], found)
    with tarfile.open(path) as archive:
        expected = {info.name: archive.extractfile(info).read() for info in archive}
    assert ([member.name for member in found], others) == (names, 0)
    assert {name: source.read(key) for key, name in enumerate(names)} == expected
    assert source.size(0) == len(image(0))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_threads_and_processes(start, shards):
    images = load(shards, cache_bytes=0).train.images
    assert isinstance(images, LazyImages)
    expected = [images[i] for i in range(5)]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(agree, images, expected, 20) for _ in range(4)]:
            done.result()
    process = multiprocessing.get_context(start).Process(target=agree, args=(images, expected, 5))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_only_the_standard_library_reads(shards):
    code = (
        "import sys\n"
        "from car_ext.datasets import load\n"
        "for name in ('webdataset', 'litdata'): sys.modules[name] = None\n"
        "print(len(load(sys.argv[1], cache_bytes=0).train.images[3]), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, shards], capture_output=True, text=True, check=False)
    assert done.stdout == "6 False\n", done.stderr


def test_shards_that_begin_at_one_are_said(shards):
    (shards / "pets-train-000001.tar").unlink()
    (shards / "pets-train-000000.tar").rename(shards / "pets-train-000001.tar")
    write(shards / "pets-test-000000.tar", samples([0]))
    assert any("there is no number 0" in note for note in load(shards).notes)
