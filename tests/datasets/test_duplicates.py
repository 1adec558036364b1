"""Test images that are training images are found and named, and at little cost."""

import shutil

import numpy as np
import pytest
from pictures import pets, save
from PIL import Image

from car_ext.datasets import duplicates, hold_out, load


@pytest.fixture
def leaky(tmp_path):
    """Two test images are training images, one of another class; a third has the same pixels in another format."""
    root = pets(tmp_path / "pets")
    shutil.copy(root / "train" / "ant" / "0.png", root / "test" / "ant" / "copy.png")
    shutil.copy(root / "train" / "bee" / "1.png", root / "test" / "ant" / "other.png")
    Image.open(root / "train" / "bee" / "2.png").save(root / "test" / "bee" / "same.bmp")
    return root


def told(root, **options):
    return [note for note in load(root, **options).notes if "training image" in note]


def test_pixels_in_memory(leaky):
    (note,) = told(leaky)
    assert note.startswith("3 test images are also training images, which makes scores of pets too good: ")
    assert f"{leaky}/test/ant/copy.png ({leaky}/train/ant/0.png)" in note
    assert "same.bmp" in note
    assert told(leaky, splits=("test",)) == []


def test_bytes_of_files(leaky, tmp_path):
    (note,) = told(leaky, cache_bytes=0)
    assert note.startswith("2 test images are also")
    assert "ant/other.png" in note
    (zipped,) = told(shutil.make_archive(str(tmp_path / "pets"), "zip", leaky), cache_bytes=0)
    assert zipped.startswith("2 test images are also")


def test_only_files_of_one_size_are_read(leaky, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for place in ("train/ant", "test/bee"):
        Image.fromarray(noise).resize((8, 8 if place[1] == "r" else 9)).save(leaky / place / "large.png")
    read = []
    content = duplicates.content
    monkeypatch.setattr(duplicates, "content", lambda images, at: read.append(images.keys[at]) or content(images, at))
    told(leaky, cache_bytes=0)
    assert read
    assert not [name for name in read if "large" in name or name.endswith("bmp")]


@pytest.mark.parametrize(("limit", "words"), [("MOST_FILES", "more than 5 files"), ("MOST_BYTES", "than 5 bytes")])
def test_large_sets_are_told_by_path_only(leaky, monkeypatch, limit, words):
    monkeypatch.setattr(duplicates, limit, 5)
    (note,) = told(leaky, cache_bytes=0)
    assert "by path only" in note
    assert words in note
    assert told(leaky)[0].startswith("3 test images")


def test_held_out_images(tmp_path):
    root = tmp_path / "pets"
    for name in ("ant", "bee"):
        for number in range(4):
            save(root / "train" / name / f"{number}.png", 1, name == "bee")
    data = hold_out(load(root, splits=("train",)), 0.5)
    assert data.notes[-1].startswith(
        "4 test images are also training images, which makes scores of pets, scored on 0.5"
    )


def test_clean_data_have_nothing_to_tell(tmp_path):
    assert load(pets(tmp_path)).notes == ()
    assert load("digits").notes == ()
