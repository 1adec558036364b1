"""Folders as users bring them: what is taken, what is not and is said, and what their names may be."""

import unicodedata
import zipfile
from pathlib import Path

import pytest
from pictures import pets, save
from PIL import Image
from torchvision.datasets import ImageFolder

from car_ext.datasets import DataOptions, load
from car_ext.errors import InputError

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def refused(data, *words, **options):
    with pytest.raises(InputError) as error:
        load(data, **options)
    assert all(word in str(error.value) for word in words), error.value


def test_what_is_not_taken_is_counted_and_told_once(tmp_path, capsys):
    root = pets(tmp_path / "pets")
    for number in range(20):
        (root / "train" / "ant" / f"{number}.gif").write_bytes(b"")
    for name in ("a.txt", "b.TXT", "README", ".hidden.png", "._0.png", ".DS_Store"):
        (root / "train" / "ant" / name).write_bytes(b"")
    (root / "train" / "stray.png").write_bytes(b"")
    notes = load(root).notes
    assert f"1 file of {root}/train not taken: 1 in no class folder" in notes
    assert f"24 files of {root}/train/ant not taken: 20 .gif, 2 .txt, 1 without an ending, 1 hidden" in notes
    assert load(root).notes == notes
    assert capsys.readouterr().err.count("24 files of") == 1


def test_many_folders_are_summed_up(tmp_path):
    root = pets(tmp_path / "pets", classes="abcdefgh", each=1)
    for name in "abcdefgh":
        (root / "test" / name / "notes.md").write_bytes(b"")
    notes = load(root).notes
    assert len(notes) == 6
    assert notes[-1] == "3 files of 3 more folders not taken: 3 .md"


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "JPEG"])
def test_nested_folders_and_endings_are_taken_as_torchvision_does(tmp_path, ending):
    root = pets(tmp_path / "pets")
    kind = {"pgm": "L"}.get(ending, "RGB")
    for name in ("b/z/deep", "b/y", "b b/x", "a", "z"):
        path = root / "train" / "ant" / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(kind, (8, 8)).save(path)
    images = load(root, cache_bytes=0).train.images
    assert [images.source.locate(key) for key in images.keys] == [
        path for path, _ in ImageFolder(root / "train").samples
    ]
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in root.rglob("*.*"):
            archive.write(path, path.relative_to(root))
    assert load(tmp_path / "pets.zip", cache_bytes=0).train.images.keys == images.keys


def test_jfif_is_jpeg(tmp_path):
    root = pets(tmp_path)
    Image.new("RGB", (8, 8)).save(root / "train" / "ant" / "9.jfif", "JPEG")
    assert load(root).class_counts.tolist() == [4, 3]


def test_a_link_in_a_circle_is_named(tmp_path):
    root = pets(tmp_path)
    (root / "train" / "ant" / "again").symlink_to(root / "train" / "ant")
    refused(root, "ant/again/again", "in a circle")


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("TRAIN", "valid"), ("train", "Validation")])
def test_splits_by_other_names(tmp_path, train, test):
    data = load(pets(tmp_path / "pets", train, test))
    assert (data.class_counts.tolist(), len(data.test)) == ([3, 3], 6)
    assert load(tmp_path).class_counts.tolist() == [3, 3]


def test_two_names_of_one_split(tmp_path):
    pets(tmp_path)
    pets(tmp_path, "Training", None)
    refused(tmp_path, "train/", "Training/", "same split")


def test_folders_beside_the_splits_are_named(tmp_path):
    root = pets(tmp_path)
    pets(root, "val", "extra")
    assert f"1 folder of {root} not taken: 'extra/'" in load(root).notes


@pytest.mark.parametrize("unlabelled", ["0.png", "images/0.png"])
def test_a_test_folder_without_classes_leaves_it_to_the_validation_split(tmp_path, unlabelled):
    root = pets(tmp_path, test="valid")
    save(root / "test" / unlabelled)
    data = load(root)
    assert len(data.test) == 6
    assert any("test/" in note and "valid/ is the test split" in note for note in data.notes)
    (root / "valid").rename(tmp_path / "elsewhere")
    refused(root, "test/ folder, but no class folders", "test/CLASS/*")


@pytest.mark.parametrize(("here", "there"), [(NFC, NFD), (NFD, NFC)])
def test_names_are_compared_in_composed_form(tmp_path, here, there):
    pets(tmp_path, test=None, classes=(here, "bee"))
    pets(tmp_path, train=None, classes=(there, "bee"))
    data = load(tmp_path)
    assert (data.class_names, data.class_counts.tolist()) == (("bee", NFC), [3, 3])
    assert len(data.test) == 6


def test_two_folders_of_one_name(tmp_path):
    pets(tmp_path, classes=(NFC, NFD))
    refused(tmp_path, "two class folders 'café'", r"'caf\xe9'", r"'cafe\u0301'")


def test_a_class_without_test_images_is_trained_on_and_told(tmp_path, capsys):
    root = pets(tmp_path / "pets")
    save(root / "train" / "cow" / "0.png", 9, 9, 9)
    data = load(root)
    assert data.class_counts.tolist() == [3, 3, 1]
    assert "1 of 3 classes has no test image in pets, so no score measures it: 'cow'" in capsys.readouterr().err


def test_only_training_images(tmp_path):
    root = pets(tmp_path, test=None)
    data = load(root, splits=("train",), options=DataOptions(test_share=0))
    assert (data.class_counts.tolist(), len(data.test)) == ([3, 3], 0)
    refused(root, "nothing could be scored", "--holdout", options=DataOptions(test_share=0))


def test_a_home_that_is_not_known(tmp_path):
    refused("~nobody-of-this-name/pets", "'~nobody-of-this-name'", "not known here")
    refused("~/no such folder", str(Path.home() / "no such folder"), "does not exist")


def zipped(root, path, encode, system):
    """The folder as a .zip whose names are what `encode` makes of them, without the mark of UTF-8."""

    class Info(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):
            return encode(self.filename), 0

    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            info = Info(file.relative_to(root).as_posix())
            info.create_system = system
            archive.writestr(info, file.read_bytes())
    return path


@pytest.mark.parametrize(
    ("encoding", "system"), [("utf-8", 3), ("utf-8", 19), ("cp437", 0)], ids=["Unix", "macOS", "DOS"]
)
def test_names_in_a_zip_are_what_it_says_of_itself(tmp_path, encoding, system):
    root = pets(tmp_path / "pets", classes=(NFC, "bee"))
    packed = zipped(root, tmp_path / "pets.zip", lambda name: name.encode(encoding), system)
    data = load(packed)
    assert (data.class_names, data.class_counts.tolist()) == (("bee", NFC), [3, 3])


def test_names_in_a_zip_of_no_known_encoding(tmp_path):
    root = pets(tmp_path / "pets", classes=(NFC, "bee"))
    packed = zipped(root, tmp_path / "pets.zip", lambda name: name.encode("latin-1"), 3)
    refused(packed, "does not say in which encoding", "pack it again")


def test_a_zip_with_backslashes_is_told_what_is_wrong(tmp_path):
    root = pets(tmp_path / "pets")
    packed = zipped(root, tmp_path / "pets.zip", lambda name: name.replace("/", "\\").encode(), 0)
    refused(packed, "backslashes", "write forward slashes", "pack it again")


def test_members_of_one_name_are_counted(tmp_path):
    root = pets(tmp_path / "pets")
    packed = zipped(root, tmp_path / "pets.zip", str.encode, 3)
    with zipfile.ZipFile(packed, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("train/ant/0.png", (root / "train" / "bee" / "0.png").read_bytes())
    assert f"1 file of {packed} not taken: it holds a later one of the same name" in load(packed).notes
