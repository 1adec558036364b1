import multiprocessing
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pixels import agree
from sklearn.datasets import load_digits

from car_ext.datasets import LazyImages, load
from car_ext.datasets.decode import decode
from car_ext.datasets.longtail import imbalance
from car_ext.datasets.profiles import exponential_profile
from car_ext.errors import InputError
from car_ext.machine.memory import default_cache_bytes

COUNTS = {"ant": 8, "bee": 4, "cow": 2}


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def tree(tmp_path):
    """8, 4 and 2 training and 2 test images a class, each of one colour that tells it apart."""
    root = tmp_path / "pets"
    for label, (name, count) in enumerate(COUNTS.items()):
        for i in range(count):
            save(root / "train" / name / f"{i}.png", Image.new("RGB", (6, 6), (label, i, 0)))
        for i in range(2):
            save(root / "test" / name / f"{i}.png", Image.new("RGB", (6, 6), (label, i, 255)))
    return root


def pack(root, path, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*"), reverse=True):  # the order inside the archive must not matter
            if file.is_file():
                archive.write(file, prefix + file.relative_to(root).as_posix())
    return path


def pixels(split):
    return np.stack([split.images[i] for i in range(len(split))])


def refused(data, *named, **options):
    with pytest.raises(InputError) as error:
        load(str(data), **options)
    for word in named:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_folder(tree):
    data = load(str(tree))
    assert (data.name, data.class_names, data.num_classes) == ("pets", ("ant", "bee", "cow"), 3)
    assert (data.image_size, data.channels) == (6, 3)
    assert data.class_counts.tolist() == [8, 4, 2]
    assert data.train.targets.dtype == np.int64
    assert isinstance(data.train.images, np.ndarray)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.shape == (14, 6, 6, 3)
    train = [[label, i, 0] for label, count in enumerate((8, 4, 2)) for i in range(count)]
    assert data.train.images[:, 0, 0].tolist() == train
    assert data.test.images[:, 0, 0].tolist() == [[c, i, 255] for c in range(3) for i in range(2)]


@pytest.mark.parametrize("prefix", ["", "wrapped/"])
@pytest.mark.parametrize("cache_bytes", [None, 0])
def test_zip_and_laziness_leave_the_pixels_alone(tree, tmp_path, prefix, cache_bytes):
    expected = load(str(tree), image_size=4)
    data = load(str(pack(tree, tmp_path / "pets.zip", prefix)), image_size=4, cache_bytes=cache_bytes)
    assert isinstance(data.train.images, LazyImages) == (cache_bytes == 0)
    for part in ("train", "test"):
        assert (pixels(getattr(data, part)) == getattr(expected, part).images).all()
        assert (getattr(data, part).targets == getattr(expected, part).targets).all()


def test_wrapping_folder_and_val(tree, tmp_path):
    (tree / "test").rename(tree / "val")
    assert load(str(tmp_path)).class_counts.tolist() == [8, 4, 2]


def test_test_is_preferred_to_val(tree):
    save(tree / "val" / "zebra" / "0.png", Image.new("RGB", (6, 6)))
    assert len(load(str(tree)).test) == 6


def test_the_cache_is_shared_between_the_splits(tree):
    data = load(str(tree), cache_bytes=14 * 6 * 6 * 3 + 6 * 6 * 6 * 3 - 1)
    assert isinstance(data.train.images, np.ndarray)
    assert isinstance(data.test.images, LazyImages)


def test_a_split_not_asked_for_is_only_listed(tree):
    (tree / "train" / "ant" / "3.png").write_bytes(b"broken")
    data = load(str(tree), splits=("test",))
    assert data.class_counts.tolist() == [8, 4, 2]
    assert isinstance(data.test.images, np.ndarray)
    with pytest.raises(InputError, match=r"3\.png"):
        data.train.images[3]


@pytest.mark.parametrize(("start", "number"), [("fork", 2), ("spawn", 1)])
def test_lazy_zip_works_in_other_processes(tree, tmp_path, start, number):
    for i in range(3):  # larger than a read buffer, or sharing a file position would do no harm
        Image.effect_noise((150, 150), 50).save(tree / "train" / "ant" / f"{i}.png")
    images = load(str(pack(tree, tmp_path / "pets.zip")), cache_bytes=0).train.images
    expected = [images[i] for i in range(14)]  # read here first: a forked worker inherits the open file
    context = multiprocessing.get_context(start)
    workers = [context.Process(target=agree, args=(images, expected, 30)) for _ in range(number)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert all(worker.exitcode == 0 for worker in workers)


def test_lazy_zip_works_in_threads(tree, tmp_path):
    images = load(str(pack(tree, tmp_path / "pets.zip")), cache_bytes=0).train.images
    expected = pixels(load(str(tree)).train)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(agree, images, expected, 20) for _ in range(4)]:
            done.result()


@pytest.mark.parametrize(("side", "stored"), [(96, 96), (97, 224)])
def test_default_image_size(tree, side, stored):
    for path in (tree / "train").rglob("*.png"):
        save(path, Image.new("RGB", (side + 5, side)))
    assert load(str(tree), cache_bytes=0).image_size == stored


def test_other_files_are_ignored(tree, tmp_path):
    (tree / "train" / "ant" / "notes.txt").write_text("x")
    (tree / "train" / "ant" / ".hidden.png").write_bytes(b"x")
    (tree / "train" / ".cache").mkdir()
    (tree / "readme.md").write_text("x")
    packed = pack(tree, tmp_path / "pets.zip")
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("__MACOSX/train/ant/._0.png", b"x")
    assert load(str(tree)).class_counts.tolist() == [8, 4, 2]
    assert load(str(packed)).class_counts.tolist() == [8, 4, 2]


@pytest.mark.parametrize(
    "name", ["a.JPG", "a.jpeg", "a.jfif", "a.bmp", "a.WebP", "a.ppm", "a.pgm", "a.pbm", "a.pnm", "a.tif", "a.TIFF"]
)
def test_formats(tree, name):
    save(tree / "train" / "cow" / name, Image.new("RGB", (6, 6), (50, 100, 150)))
    data = load(str(tree))
    assert data.class_counts.tolist() == [8, 4, 3]
    assert np.abs(data.train.images[-1].astype(int) - [50, 100, 150]).max() <= 3


def decoded(tmp_path, image, image_size=2, name="x.png", **options):
    image.save(tmp_path / name, **options)
    return decode((tmp_path / name).read_bytes(), image_size, name)


def test_modes(tmp_path):
    grey16 = Image.fromarray(np.full((2, 2), 200 * 257, np.uint16))
    half_clear = Image.new("RGBA", (2, 2), (0, 0, 0, 51))
    palette = Image.new("RGB", (2, 2), (9, 8, 7)).quantize(2)
    clear_palette = palette.copy()
    clear_palette.info["transparency"] = clear_palette.getpixel((0, 0))
    assert decoded(tmp_path, grey16).tolist() == [[[200] * 3] * 2] * 2
    assert decoded(tmp_path, Image.new("L", (2, 2), 7))[0, 0].tolist() == [7, 7, 7]
    assert decoded(tmp_path, Image.new("1", (2, 2), 1))[0, 0].tolist() == [255, 255, 255]
    assert decoded(tmp_path, half_clear)[0, 0].tolist() == [204, 204, 204]
    assert decoded(tmp_path, Image.new("LA", (2, 2), (0, 0)))[0, 0].tolist() == [255, 255, 255]
    assert decoded(tmp_path, palette)[0, 0].tolist() == [9, 8, 7]
    assert decoded(tmp_path, clear_palette)[0, 0].tolist() == [255, 255, 255]
    with pytest.raises(InputError, match="floating-point"):
        decoded(tmp_path, Image.new("F", (2, 2)), name="x.tiff")


def test_exif_orientation(tmp_path):
    image = Image.fromarray(np.array([[0, 255], [0, 255]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees
    assert decoded(tmp_path, image, exif=exif)[..., 0].tolist() == [[0, 0], [255, 255]]


def test_centre_square(tmp_path):
    columns = np.repeat(np.array([[10, 20, 30, 40]], np.uint8), 2, axis=0)
    assert decoded(tmp_path, Image.fromarray(columns))[..., 0].tolist() == [[20, 30]] * 2
    assert decoded(tmp_path, Image.fromarray(columns.T))[..., 0].tolist() == [[20, 20], [30, 30]]
    doubled = np.repeat(np.repeat(columns, 4, axis=0), 4, axis=1)
    small = decoded(tmp_path, Image.fromarray(doubled))[..., 0].astype(int)
    assert np.abs(small - [[20, 30]] * 2).max() <= 2
    assert decoded(tmp_path, Image.new("L", (50_000, 1), 9), 3).tolist() == [[[9] * 3] * 3] * 3


@pytest.mark.parametrize("content", [b"", b"not an image", "cut", "gif"])
def test_a_corrupt_image_is_named(tree, tmp_path, content):
    victim = tree / "train" / "bee" / "2.png"
    if content == "cut":
        Image.effect_noise((64, 64), 50).save(victim)
        content = victim.read_bytes()[:-500]
    if content == "gif":  # a format Pillow knows and the reader does not accept
        Image.new("L", (6, 6)).save(victim, format="GIF")
    else:
        victim.write_bytes(content)
    refused(tree, "bee/2.png", "replace or remove")
    refused(pack(tree, tmp_path / "pets.zip"), "train/bee/2.png", "replace or remove")


def test_a_decompression_bomb_is_refused(tree, monkeypatch):
    save(tree / "train" / "bee" / "2.png", Image.new("1", (99, 99)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refused(tree, "bee/2.png", "decompression bomb")


def test_an_oversized_zip_member_is_refused(tree, tmp_path, monkeypatch):
    monkeypatch.setattr("car_ext.datasets.tree.MAX_FILE_BYTES", 10)
    refused(pack(tree, tmp_path / "pets.zip"), "train/ant/0.png", "unpacks to")


@pytest.mark.parametrize(
    "member", ["/train/ant/x.png", "train/../../x.png", "C:/x.png", "train\\ant\\x.png", "../x.png"]
)
def test_a_zip_may_not_leave_its_root(tree, tmp_path, member):
    packed = pack(tree, tmp_path / "pets.zip")
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(member, b"x")
    refused(packed, repr(member), "unsafe path")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_may_not_leave_its_root(tree, tmp_path, what):
    outside = tmp_path / "outside"
    save(outside / "x.png", Image.new("RGB", (6, 6)))
    link = tree / "train" / ("ant/x.png" if what == "file" else "dog")
    link.symlink_to(outside / "x.png" if what == "file" else outside)
    refused(tree, str(link), "leads outside")


def test_a_link_inside_its_root_is_followed(tree):
    (tree / "train" / "cow" / "2.png").symlink_to(tree / "train" / "ant" / "7.png")
    assert load(str(tree)).train.images[-1, 0, 0].tolist() == [0, 7, 0]


def test_a_dangling_link_is_named(tree):
    (tree / "train" / "cow" / "2.png").symlink_to(tree / "gone.png")
    refused(tree, "cow/2.png", "cannot be read")


def test_a_link_to_itself_is_named(tree):
    (tree / "train" / "cow" / "2.png").symlink_to(tree / "train" / "cow" / "2.png")
    refused(tree, "cow/2.png")


def test_an_unreadable_folder_is_named(tree, monkeypatch):
    def deny(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", deny)
    refused(tree, str(tree), "Permission denied")


def test_broken_zips(tree, tmp_path):
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK not a zip")
    refused(bad, str(bad), "fetch it again")
    packed = pack(tree, tmp_path / "pets.zip")
    content = bytearray(packed.read_bytes())
    content[content.index(b"train/ant/0.png") + 30] ^= 0xFF  # a member's bytes no longer match its checksum
    packed.write_bytes(content)
    refused(packed, "train/ant/0.png", "cannot be read")


def test_layout_errors(tree, tmp_path):
    save(tree / "test" / "dog" / "0.png", Image.new("RGB", (6, 6)))
    refused(tree, "'dog'", "test/ but not in train/")
    (tree / "test" / "dog").rename(tree / "train" / "dog")
    assert "1 of 4 classes has no test image in pets, so no score measures it: 'dog'" in load(tree).notes
    (tree / "train" / "dog" / "0.png").unlink()
    refused(tree, "train/dog", "holds no image")
    (tree / "test").rename(tree / "held-out")
    refused(tree, str(tree), "test/ or val/")
    refused(tmp_path, "test/ or val/")


def test_one_class_is_not_enough(tmp_path):
    for part in ("train", "test"):
        save(tmp_path / part / "ant" / "0.png", Image.new("RGB", (6, 6)))
    refused(tmp_path, "at least 2")


def test_unknown_data(tmp_path):
    refused("digit", "'digit'", "did you mean 'digits'?")
    refused(tmp_path / "nowhere", "nowhere", "check the path")
    (tmp_path / "x.tar").write_bytes(b"")
    refused(tmp_path / "x.tar", "x.tar")


@pytest.mark.parametrize("image_size", [0, -3, 5000])
def test_bad_image_size(image_size):
    refused("digits", f"image_size is {image_size}", image_size=image_size)


def test_imbalance_keeps_the_first_of_each_class(tree):
    data = load(str(tree), imbalance_ratio=8)
    assert data.class_counts.tolist() == [8, 2, 1]
    assert data.train.images[:, 0, 0, 1].tolist() == [*range(8), 0, 1, 0]
    assert len(data.test) == 6
    assert "pets is cut from 14 to 11 training images, imbalance ratio 8" in data.notes


def test_the_largest_class_is_the_head_whatever_its_label():
    targets = np.array([0, 1, 2, 1, 1, 0, 1, 2, 2])
    kept = imbalance(targets, "abc", 4)
    assert kept.tolist() == [0, 1, 3, 4, 6, 2, 7]
    assert imbalance(targets, "abc", None).tolist() == list(range(9))


def test_equal_classes_are_cut_in_label_order():
    kept = imbalance(np.tile(np.arange(100), 500), [str(label) for label in range(100)], 100)
    assert np.bincount(kept % 100).tolist() == exponential_profile(500, 100, 100).tolist()


def test_too_small_a_ratio_names_the_class_and_the_way_out():
    profile = exponential_profile(5000, 10, 10)
    targets, names = np.repeat(np.arange(10), profile), [*"abcdefghi", "truck"]
    with pytest.raises(InputError) as error:
        imbalance(targets, names, 5)
    assert str(error.value) == (
        "class 'truck' has 500 training images but imbalance ratio 5 needs 1000; "
        "the smallest ratio these files allow is 10"
    )
    assert len(imbalance(targets, names, 100)) == 12406


@given(st.lists(st.integers(1, 300), min_size=2, max_size=8), st.floats(1, 400))
@settings(deadline=None)
def test_the_advised_ratio_works_and_no_clearly_smaller_one_does(counts, ratio):
    targets, names = np.repeat(np.arange(len(counts)), counts), "abcdefgh"[: len(counts)]
    profile = exponential_profile(max(counts), len(counts), ratio)
    if (profile <= sorted(counts, reverse=True)).all() and profile.all():
        kept = np.bincount(targets[imbalance(targets, names, ratio)])
        assert sorted(kept, reverse=True) == profile.tolist()
        assert (kept <= counts).all()
        return
    with pytest.raises(InputError) as refusal:
        imbalance(targets, names, ratio)
    if "smallest ratio" in str(refusal.value):
        advised = float(str(refusal.value).split()[-1])
        assert advised > ratio
        assert np.bincount(targets[imbalance(targets, names, advised)]).max() == max(counts)
        with pytest.raises(InputError):
            imbalance(targets, names, advised - 0.02)
    else:
        assert re.search("no imbalance ratio fits|without training images", str(refusal.value))


def test_ratios_that_cannot_work():
    targets = np.repeat([0, 1, 2], [9, 1, 1])
    for ratio, message in ((2, "no imbalance ratio fits"), (0.5, "at least 1"), (float("nan"), "finite")):
        with pytest.raises(InputError, match=message):
            imbalance(targets, "abc", ratio)
    with pytest.raises(InputError, match="leaves class 'b' without training images"):
        imbalance(np.repeat([0, 1], [9, 9]), "ab", 20)


def test_digits():
    data = load("digits")
    assert (data.name, data.image_size, data.channels, data.num_classes) == ("digits", 8, 1, 10)
    assert data.class_counts.tolist() == exponential_profile(100, 10, 50).tolist()
    assert (data.class_counts.max(), data.class_counts.min()) == (100, 2)
    assert np.bincount(data.test.targets).tolist() == [70] * 10
    assert data.train.images.dtype == np.uint8
    assert data.train.images.shape[1:] == (8, 8, 1)
    assert data.test.images.max() == 255


def test_digits_are_the_originals_and_the_splits_are_apart():
    data, originals = load("digits", imbalance_ratio=1), load_digits()
    assert data.class_counts.tolist() == [100] * 10
    stored = np.round(originals.images * 255 / 16).astype(np.uint8)
    where = {image.tobytes(): i for i, image in enumerate(stored)}
    assert len(where) == 1797
    train, test = ([where[image.tobytes()] for image in split.images] for split in (data.train, data.test))
    assert not set(train) & set(test)
    assert (originals.target[train] == data.train.targets).all()
    assert (originals.target[test] == data.test.targets).all()
    assert np.histogram(test, bins=4, range=(0, 1797))[0].min() > 140  # all parts of the file, so all writers
    assert test[:5] == [536, 1516, 617, 546, 1235]  # the split is part of every published number


def test_digits_at_another_size():
    assert load("digits", image_size=16).test.images.shape == (700, 16, 16, 1)


def test_default_cache_is_a_sane_share_of_memory(monkeypatch):
    assert 1 << 20 < default_cache_bytes() < 1 << 50
    monkeypatch.setattr("pathlib.Path.read_text", lambda self: (_ for _ in ()).throw(OSError))
    assert 1 << 20 < default_cache_bytes() < 1 << 50
