"""The same data are known again wherever they lie."""

import shutil

import pytest
from pictures import pets, save

from car_ext.datasets import load


@pytest.fixture
def root(tmp_path):
    return pets(tmp_path / "pets")


def test_the_place_and_the_cache_do_not_matter(root, tmp_path):
    mine = load(root).fingerprint
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", root)
    assert {load(packed).fingerprint, load(root, cache_bytes=0).fingerprint} == {mine}
    moved = shutil.move(root, tmp_path / "elsewhere" / "pets")
    assert load(moved).fingerprint == mine
    assert len(mine) == 64


def test_names_labels_and_pixels_matter(root):
    known = {
        load(root).fingerprint,
        load(root, splits=("train",)).fingerprint,
        load(root, imbalance_ratio=3).fingerprint,
    }
    save(root / "test" / "bee" / "0.png", 99, 99, 99)
    known.add(load(root).fingerprint)
    (root / "test" / "bee" / "0.png").rename(root / "test" / "ant" / "9.png")
    known.add(load(root).fingerprint)
    for split in ("train", "test"):
        (root / split / "ant").rename(root / split / "ape")
    known.add(load(root).fingerprint)
    assert len(known) == 6


def test_nothing_is_read_to_score(root):
    assert load(root, splits=("test",)).fingerprint == ""
