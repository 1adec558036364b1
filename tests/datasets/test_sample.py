"""A data set is judged by many of its images, not by the first."""

import warnings

import numpy as np
import pytest
from deployed import noise
from PIL import Image

from car_ext.datasets import load
from car_ext.datasets.sample import spread
from car_ext.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Eight training and two test images a class, of noise, 40 pixels a side."""
    for part, count in (("train", 8), ("test", 2)):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                save(tmp_path / part / name / f"{index}.png", (40, 40))
    return tmp_path


def save(path, size, low=0, high=256, dtype=np.uint8):
    shape = (*size, 3) if dtype == np.uint8 else size
    Image.fromarray(noise(low, high, shape, dtype)).save(path)


def test_positions_are_spread_and_always_the_same():
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 64) == [0, 1, 2]
    assert spread(0, 64) == []
    assert len(set(spread(10**6, 64))) == 64


@pytest.mark.parametrize("first", [(7, 9), (300, 400)])
def test_the_first_image_does_not_decide_the_size(folder, first, capsys):
    save(folder / "train" / "a" / "0.png", first)
    with pytest.warns(UserWarning, match="differ wildly") as warned:
        assert load(folder).image_size == 40
    said = capsys.readouterr().err
    assert "40 x 40 pixels" in said
    assert "16 looked at" in said
    (message,) = [str(warning.message) for warning in warned]
    assert "train/a/0.png" in message
    assert f" {min(first)} " in message
    assert load(folder).image_size == 40  # always the same ones are looked at


def test_images_of_one_size_are_no_reason_to_warn(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(folder).image_size == 40
        assert load(folder, image_size=20).image_size == 20


def test_photographs_of_many_sizes_are_none_either(folder):
    for number, path in enumerate(sorted((folder / "train").rglob("*.png"))):
        save(path, (100 + 60 * number, 700))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(folder, cache_bytes=0).image_size == 224
    save(folder / "train" / "a" / "0.png", (30, 30))
    with pytest.warns(UserWarning, match="is 30 and that of"):
        assert load(folder, cache_bytes=0).image_size == 224


def test_a_broken_image_does_not_decide_the_size(folder):
    (folder / "train" / "a" / "0.png").write_bytes(b"broken")
    data = load(folder, cache_bytes=0)
    assert data.image_size == 40
    with pytest.raises(InputError, match=r"a/0\.png"):
        data.train.images[0]
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"a/0\.png"):
        load(folder)


@pytest.mark.parametrize("cache_bytes", [None, 0])
@pytest.mark.parametrize(("high", "dtype"), [(9, np.uint8), (4096, np.uint16)])
def test_images_of_nearly_one_value_are_told_of_once(folder, cache_bytes, high, dtype):
    for path in (folder / "train" / "b").iterdir():
        save(path, (40, 40), 0, high, dtype)
    with pytest.warns(UserWarning, match="nearly one value") as warned:
        load(folder, cache_bytes=cache_bytes)
    (message,) = [str(warning.message) for warning in warned]
    assert message.startswith("8 of 16 images")
    assert "train/b/0.png" in message
    assert f"from 0 to {8 if dtype == np.uint8 else 15} of 255" in message
