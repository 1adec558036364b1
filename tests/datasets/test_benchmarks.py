"""CIFAR, Tiny-ImageNet and the long-tailed lists, from small files in the layout each is distributed in."""

import hashlib
import io
import shutil
import tarfile
import urllib.error
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pixels import agree

from car_ext.cli.flags import parse
from car_ext.config.config import Config
from car_ext.datasets import DataOptions, LazyImages, load
from car_ext.datasets.benchmarks import BENCHMARKS, Benchmark
from car_ext.datasets.lazy import ResizedImages
from car_ext.datasets.sources import cifar
from car_ext.errors import InputError
from car_ext.training.train import train

NAMES = {"cifar10": [f"thing{label}" for label in range(3)], "cifar100": [f"kind{label}" for label in range(4)]}


def at(root, **options):
    return DataOptions(data_root=root, **options)


def refused(name, root, *words, **options):
    with pytest.raises(InputError) as error:
        load(name, options=at(root, **options))
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


@pytest.fixture
def small(monkeypatch):
    """Makes a benchmark as small as the test's files."""

    def small(name, classes, train, largest, smallest, test):
        monkeypatch.setitem(BENCHMARKS, name, Benchmark(classes, train, largest, smallest, test, "this test"))

    return small


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar_files(request, tmp_path, small):
    """The unpacked binary version, 30 or 40 training images a class: name, root, images and labels by split."""
    name, random = request.param, np.random.RandomState(0)
    version, classes = cifar.VERSIONS[name], len(NAMES[name])
    (tmp_path / version.folder).mkdir()
    (tmp_path / version.folder / version.names).write_text("\n".join(NAMES[name]) + "\n\n")
    expected = {}
    for part, files in (("train", version.train), ("test", version.test)):
        each = 10 * len(version.train) if part == "train" else 4
        labels = random.permutation(np.repeat(np.arange(classes), each))
        images = random.randint(0, 256, (len(labels), 32, 32, 3), np.uint8)
        expected[part] = images, labels
        for file, chosen in zip(files, np.array_split(np.arange(len(labels)), len(files)), strict=True):
            content = b""
            for i in chosen:
                coarse = [99] * (version.label_bytes - 1)
                red, green, blue = (images[i, :, :, channel].tobytes() for channel in range(3))
                content += bytes([*coarse, labels[i]]) + red + green + blue
            (tmp_path / version.folder / file).write_bytes(content)
    each = 10 * len(version.train)
    small(name, classes, classes * each, each, each, classes * 4)
    return name, tmp_path, expected


def packed(name, root, monkeypatch):
    """The archive in place of its folder, with an md5 that fits."""
    version = cifar.VERSIONS[name]
    with tarfile.open(root / version.archive, "w:gz") as tar:
        tar.add(root / version.folder, version.folder)
    shutil.rmtree(root / version.folder)
    digest = hashlib.md5((root / version.archive).read_bytes()).hexdigest()
    monkeypatch.setitem(cifar.VERSIONS, name, replace(version, md5=digest))
    return root / version.archive


@pytest.mark.parametrize("archived", [False, True])
def test_cifar(cifar_files, archived, monkeypatch):
    name, root, expected = cifar_files
    if archived:
        packed(name, root, monkeypatch)
    data = load(name, options=at(root))
    assert (data.name, list(data.class_names), data.image_size, data.channels) == (name, NAMES[name], 32, 3)
    for part, (images, labels) in expected.items():
        assert (getattr(data, part).images == images).all()
        assert (getattr(data, part).targets == labels).all()
        assert getattr(data, part).targets.dtype == np.int64


def test_cifar_is_cut_by_the_seeded_rule(cifar_files):
    name, root, (images, labels) = *cifar_files[:2], cifar_files[2]["train"]
    for seed in (0, 10):
        data = load(name, imbalance_ratio=5, options=at(root, selection_seed=seed))
        random, kept = np.random.RandomState(seed), []
        for label, count in enumerate(data.class_counts):
            positions = np.flatnonzero(labels == label).tolist()
            random.shuffle(positions)
            kept += positions[:count]
        assert (data.train.images == images[kept]).all()
        assert len(data.test) == 4 * len(NAMES[name])
    first = load(name, imbalance_ratio=5, options=at(root, selection="first"))
    assert (first.train.images[:3] == images[labels == 0][:3]).all()


def test_cifar_at_another_size_is_made_when_asked_for(cifar_files):
    name, root, expected = cifar_files
    lazy = load(name, image_size=48, imbalance_ratio=2, cache_bytes=0, options=at(root, selection="first")).train
    held = load(name, image_size=48, imbalance_ratio=2, options=at(root, selection="first")).train
    assert isinstance(lazy.images, ResizedImages)
    assert isinstance(held.images, np.ndarray)
    agree(lazy.images, held.images, 1)
    images, labels = expected["train"]
    first = Image.fromarray(images[labels == 0][0]).resize((48, 48), Image.Resampling.BICUBIC)
    assert (lazy.images[0] == np.asarray(first)).all()


def test_cifar_downloads_only_when_asked(cifar_files, tmp_path, monkeypatch):
    name, root, expected = cifar_files
    archive = packed(name, root, monkeypatch)
    version = replace(cifar.VERSIONS[name], url=f"https://example.org/{archive.name}")
    monkeypatch.setitem(cifar.VERSIONS, name, version)
    content, asked = archive.read_bytes(), []

    class Response(io.BytesIO):
        headers = {"Content-Length": str(len(content))}  # noqa: RUF012

    def urlopen(url, timeout):
        asked.append(url)
        return Response(content)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    new = tmp_path / "new"
    new.mkdir()
    refused(name, new, version.folder, archive.name, "--download")
    assert not asked
    for _ in range(2):
        assert (load(name, options=at(new, download=True)).train.targets == expected["train"][1]).all()
    assert asked == [version.url]
    assert [path.name for path in new.iterdir()] == [archive.name]

    content = content[:-1] + b"x"
    another = tmp_path / "another"
    refused(name, another, "md5", version.md5, "fetch it again", download=True)
    assert not (another / archive.name).exists()

    def unreachable(url, timeout):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    refused(name, tmp_path / "third", version.url, "no route", "put the file there", download=True)


def test_an_archive_with_another_md5_is_not_opened(cifar_files, monkeypatch):
    name, root, _ = cifar_files
    archive = packed(name, root, monkeypatch)
    archive.write_bytes(archive.read_bytes() + b"x")
    monkeypatch.setattr(tarfile, "open", lambda *args: pytest.fail("opened"))
    refused(name, root, archive.name, "md5")


def test_broken_cifar_is_named(cifar_files):
    name, root, _ = cifar_files
    version = cifar.VERSIONS[name]
    file = root / version.folder / version.train[0]
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    refused(name, root, version.train[0], str(len(whole) - 1))
    size = version.label_bytes + 3072
    file.write_bytes(whole[:-size])
    refused(name, root, f"not {name} as published", "train images, not")
    file.write_bytes(bytes([77] * version.label_bytes) + whole[version.label_bytes :])
    refused(name, root, "label 77")
    file.unlink()
    refused(name, root, version.train[0], "cannot be read")


def test_cifar_needs_a_root():
    with pytest.raises(InputError, match="'cifar10' needs --data-root"):
        load("cifar10")


def test_a_run_on_cifar(cifar_files, tmp_path):
    name, root, _ = cifar_files
    flags = f"--data {name} --data-root {root} --imbalance-ratio 5 --profile step --epochs 1 --out {tmp_path / 'run'}"
    summary = train(parse(flags.split()), progress=False)
    assert summary["data"] == name
    assert next(iter(summary["class_counts"])) == NAMES[name][0]
    each = 10 * len(cifar.VERSIONS[name].train)
    assert sorted(summary["class_counts"].values()) == sorted(
        [each // 5] * (len(NAMES[name]) - len(NAMES[name]) // 2) + [each] * (len(NAMES[name]) // 2)
    )


def test_config_hands_every_data_option_on():
    words = "--data-root r --test-list t --label-column c --download --profile step --selection first"
    config = parse([*words.split(), "--selection-seed", "10"])
    assert config.data_options == DataOptions("r", "t", "c", True, "step", "first", 10)
    assert Config().data_options == DataOptions()
    assert Config().differences(Config(download=True)) == []


def test_a_rule_for_the_cut_without_a_cut_is_refused(cifar_files):
    name, root, _ = cifar_files
    for option in ({"profile": "step"}, {"selection": "first"}, {"selection_seed": 1}):
        refused(name, root, "add --imbalance-ratio", **option)


@pytest.fixture
def tiny(tmp_path, small):
    """Two classes of 12 training and 3 validation images, annotated out of order."""
    root = tmp_path / "tiny-imagenet-200"
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for label, wnid in enumerate(["n02", "n01"]):
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("n02_0.JPEG\t0\t1\t2\t3\n")
        for i in range(12):
            Image.new("RGB", (64, 64), (9, i * 20, 200)).save(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG")
        for i in range(3):
            number = 2 * i + label
            Image.new("RGB", (64, 64), (number * 40, 0, 0)).save(root / "val" / "images" / f"val_{number}.JPEG")
            lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    small("tiny_imagenet", 2, 24, 12, 12, 6)
    return tmp_path


@pytest.mark.parametrize("archived", [False, True])
def test_tiny_imagenet(tiny, archived):
    root = tiny / "tiny-imagenet-200"
    if archived:
        with zipfile.ZipFile(tiny / "tiny-imagenet-200.zip", "w") as archive:
            for file in root.rglob("*"):
                archive.write(file, file.relative_to(tiny).as_posix())
        shutil.rmtree(root)
    data = load("tiny_imagenet", options=at(tiny))
    assert (data.class_names, data.image_size, data.class_counts.tolist()) == (("n01", "n02"), 64, [12, 12])
    order = sorted(range(12), key=str)  # of the file names: 0, 1, 10, 11, 2, ...
    greens = data.train.images[:, 5, 5, 1].astype(int)
    assert np.abs(greens - [20 * i for i in order] * 2).max() <= 3
    assert data.test.targets.tolist() == [1, 1, 1, 0, 0, 0]
    assert data.train.files[1] == "tiny-imagenet-200/train/n01/images/n01_1.JPEG"
    assert data.spent is None  # scored on the test images that it brings, whatever it was trained on
    assert np.abs(data.test.images[:, 5, 5, 0].astype(int) - [0, 80, 160, 40, 120, 200]).max() <= 3

    cut = load("tiny_imagenet", imbalance_ratio=4, cache_bytes=0, options=at(tiny))
    assert isinstance(cut.train.images, LazyImages)
    assert cut.class_counts.tolist() == [12, 3]
    positions = list(range(12, 24))
    random = np.random.RandomState(0)
    random.shuffle(list(range(12)))
    random.shuffle(positions)
    for i, position in enumerate(positions[:3]):
        assert (cut.train.images[12 + i] == data.train.images[position]).all()


def test_broken_tiny_imagenet_is_named(tiny):
    annotations = tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    whole = annotations.read_text()
    for line in ("val_9.JPEG\tn01\t0", "val_0.JPEG\tn03\t0", "val_0.JPEG", ""):
        annotations.write_text(f"{whole}{line}\n")
        refused("tiny_imagenet", tiny, "line 7", "val_annotations.txt", repr(line.split("\t")[0]))
    annotations.write_text(whole)
    (tiny / "tiny-imagenet-200" / "train" / "n01" / "images" / "n01_3.JPEG").unlink()
    refused("tiny_imagenet", tiny, "23 train images, not 24", "smallest class, not 12")
    shutil.rmtree(tiny / "tiny-imagenet-200")
    refused("tiny_imagenet", tiny, "tiny-imagenet-200.zip", "cannot be read")
    with zipfile.ZipFile(tiny / "tiny-imagenet-200.zip", "w") as archive:
        archive.writestr("other/x.JPEG", b"x")
    refused("tiny_imagenet", tiny, "no folder 'tiny-imagenet-200/train'")


LISTS = {
    "imagenet_lt": ("ImageNet_LT_train.txt", "ImageNet_LT_test.txt"),
    "places_lt": ("Places_LT_train.txt", "Places_LT_test.txt"),
    "inaturalist2018": ("iNaturalist18_train.txt", "iNaturalist18_val.txt"),
}


@pytest.mark.parametrize("name", LISTS)
def test_named_lists(name, tmp_path, small):
    small(name, 2, 5, 4, 1, 4)
    Image.new("RGB", (8, 8), (0, 99, 0)).save(tmp_path / "x.png")
    train_list, test_list = (tmp_path / file for file in LISTS[name])
    test_list.write_text("x.png 0\nx.png 1\nx.png 1\nx.png 0\n")
    scored = load(name, splits=("test",), options=at(tmp_path))
    assert (scored.test.targets.tolist(), len(scored.train)) == ([0, 1, 1, 0], 0)
    train_list.write_text("x.png 0\nx.png 0\nx.png 1\nx.png 0\nx.png 0\n")
    data = load(name, options=at(tmp_path))
    assert (data.name, data.class_names, data.class_counts.tolist()) == (name, ("0", "1"), [4, 1])
    assert data.train.images[:, 0, 0].tolist() == [[0, 99, 0]] * 5

    train_list.write_text("x.png 0\nx.png 0\nx.png 1\nx.png 0\nx.png 1\nx.png 2\n")
    test_list.write_text("x.png 0\nx.png 1\nx.png 1\nx.png 2\n")
    refused(
        name,
        tmp_path,
        f"not {name} as published (this test)",
        "3 classes, not 2",
        "6 train images, not 5",
        "3 train images of the largest class, not 4",
        "1 test images of the smallest class, not 2",
    )
    train_list.unlink()
    refused(name, tmp_path, train_list.name, "cannot be read")


@pytest.mark.parametrize(("name", "benchmark"), BENCHMARKS.items())
def test_the_sizes_are_the_published_ones(name, benchmark):
    assert benchmark.test % benchmark.classes == 0
    rest = benchmark.train - benchmark.largest - benchmark.smallest
    assert (benchmark.classes - 2) * benchmark.smallest <= rest <= (benchmark.classes - 2) * benchmark.largest
    ratios = {"imagenet_lt": 256, "places_lt": 996, "inaturalist2018": 500}
    assert benchmark.largest / benchmark.smallest == ratios.get(name, 1)
    each = {"imagenet_lt": 50, "places_lt": 100, "inaturalist2018": 3, "tiny_imagenet": 50, "cifar10": 1000}
    assert benchmark.test // benchmark.classes == each.get(name, 100)
