"""Crops and maps of whole batches against Pillow, one image after another."""

import numpy as np
import pytest
import torch
from PIL import Image

from car_ext.methods.augment.geometry import affine, blackened, cropped, mirrored, resized, turned


def pictures(number=40, size=24, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, size, size, channels), dtype=np.uint8)


def pil(picture):
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)


def array(image):
    return np.asarray(image).reshape(image.height, image.width, -1)


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_are_slices_of_the_padded_image(channels):
    images, random = pictures(channels=channels), np.random.default_rng(1)
    top, left = random.integers(0, 24 + 6 - 20 + 1, (2, 40))
    found = cropped(torch.from_numpy(images), top, left, 20, 3).numpy()
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    for image, picture, y, x in zip(found, padded, top, left, strict=True):
        assert np.array_equal(image, picture[y : y + 20, x : x + 20])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mirrored_image_is_numpy_s(channels):
    images = pictures(channels=channels)
    assert np.array_equal(mirrored(torch.from_numpy(images)).numpy(), images[:, :, ::-1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [9, 24, 40])
def test_resized_boxes_are_pillow_s(side, channels):
    images, random = pictures(channels=channels), np.random.default_rng(2)
    high, wide = random.integers(1, 25, (2, 40))
    top, left = random.integers(0, 25 - high), random.integers(0, 25 - wide)
    found = resized(torch.from_numpy(images), np.stack([top, left, high, wide], 1), side).numpy()
    for image, picture, y, x, h, w in zip(found, images, top, left, high, wide, strict=True):
        crop = pil(picture[y : y + h, x : x + w])
        differences = np.abs(image.astype(int) - array(crop.resize((side, side), Image.Resampling.BILINEAR)))
        assert differences.max() <= (h > w)  # Pillow may take the rows of a tall box first


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_are_pillow_s(channels):
    images, random = pictures(channels=channels), np.random.default_rng(3)
    maps = np.tile([1.0, 0, 0, 0, 1, 0], (40, 1)) + random.uniform(-0.4, 0.4, (40, 6)) * [1, 1, 20, 1, 1, 20]
    fill = (128,) * channels
    for smooth, kind, within in ((False, Image.Resampling.NEAREST, 0), (True, Image.Resampling.BILINEAR, 1)):
        found = affine(torch.from_numpy(images), maps, 128, smooth).numpy().astype(int)
        for image, picture, values in zip(found, images, maps, strict=True):
            fillcolor = fill if channels == 3 else 128
            expected = pil(picture).transform(
                (24, 24), Image.Transform.AFFINE, tuple(values), kind, fillcolor=fillcolor
            )
            differences = np.abs(image - array(expected))
            # A coordinate of 16 bits may lie beyond the border where Pillow's, of 53, does not yet.
            assert (differences > within).any(axis=2).sum() <= (1 if smooth else 0)


def test_an_image_is_turned_as_pillow_turns_it():
    images = pictures(size=25)
    degrees = np.linspace(-40, 40, 40)
    found = affine(torch.from_numpy(images), turned(degrees, 25, 25), 7).numpy()
    for image, picture, angle in zip(found, images, degrees, strict=True):
        expected = array(pil(picture).rotate(angle, Image.Resampling.NEAREST, fillcolor=(7, 7, 7)))
        assert (image != expected).any(axis=2).sum() <= 2  # of 625, on the edge between two pixels


def test_a_black_square_is_cut_off_at_the_border():
    images = pictures(24 * 24, channels=1) | 1
    rows, columns = np.divmod(np.arange(24 * 24), 24)
    found = blackened(torch.from_numpy(images), rows, columns, 9).numpy()
    for image, picture, y, x in zip(found, images, rows, columns, strict=True):
        expected = picture.copy()
        expected[max(y - 4, 0) : y + 4, max(x - 4, 0) : x + 4] = 0
        assert np.array_equal(image, expected)
