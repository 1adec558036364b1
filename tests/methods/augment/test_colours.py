"""Colours of whole batches against Pillow, one image after another."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from timm.data.auto_augment import solarize_add
from torchvision.transforms.v2 import functional

from car_ext.methods.augment import colours


def pictures(number=60, channels=3):
    """Noise of all ranges, bright, dark, of a single grey level, and with few levels."""
    random = np.random.default_rng(0)
    low = random.integers(0, 200, (number, 1, 1, channels))
    high = low + random.integers(1, 56, (number, 1, 1, channels)) * random.integers(1, 2, (number, 1, 1, 1))
    images = random.integers(low, high, (number, 16, 16, channels)).astype(np.uint8)
    images[:20] = random.integers(0, 256, (20, 16, 16, channels))
    images[20:24] = images[20:24, :1, :1]
    images[24:28] &= 128
    return images


def pil(picture):
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)


def tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)


FACTORS = np.random.default_rng(1).uniform(0, 2, 60)
FACTORS[:3] = 0, 1, 1.9
# Ours, its arguments, Pillow's for one image, grey levels between them.
LIKE_PILLOW = {
    "brightness": (colours.brightened, FACTORS, lambda x, f: ImageEnhance.Brightness(x).enhance(f), 1),
    "contrast": (colours.contrasted, FACTORS, lambda x, f: ImageEnhance.Contrast(x).enhance(f), 1),
    "color": (colours.saturated, FACTORS, lambda x, f: ImageEnhance.Color(x).enhance(f), 1),
    "sharpness": (colours.sharpened, FACTORS, lambda x, f: ImageEnhance.Sharpness(x).enhance(f), 1),
    "grey": (colours.greyed, FACTORS, lambda x, _: ImageOps.grayscale(x).convert(x.mode), 0),
    "posterize": (colours.posterized, 1 + np.arange(60) % 8, lambda x, b: ImageOps.posterize(x, b) if b < 8 else x, 0),
    "solarize": (colours.solarized, np.arange(60) * 256 // 59, ImageOps.solarize, 0),
    "solarize_add": (colours.solarize_added, np.arange(60) * 2, solarize_add, 0),
    "invert": (colours.inverted, FACTORS, lambda x, _: ImageOps.invert(x), 0),
    "autocontrast": (colours.autocontrasted, FACTORS, lambda x, _: ImageOps.autocontrast(x), 1),
    "equalize": (colours.equalized, FACTORS, lambda x, _: ImageOps.equalize(x), 0),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", LIKE_PILLOW)
def test_colours_are_pillow_s(name, channels):
    operation, arguments, theirs, within = LIKE_PILLOW[name]
    images = pictures(channels=channels)
    before = images.copy()
    found = operation(torch.from_numpy(images), arguments).numpy()
    assert np.array_equal(images, before)
    assert found.dtype == np.uint8
    for image, picture, argument in zip(found, images, arguments.tolist(), strict=True):
        expected = np.asarray(theirs(pil(picture), argument)).reshape(picture.shape)
        assert np.abs(image.astype(int) - expected).max() <= within
    assert (found != images).any() == (channels == 3 or name not in {"color", "grey"})


# Half a turn either way; torchvision rounds the channels down, which may be one level below.
@pytest.mark.parametrize("channels", [1, 3])
def test_a_hue_is_turned_as_torchvision_turns_it(channels):
    images, shifts = pictures(channels=channels), np.linspace(-0.5, 0.5, 60)
    found = colours.shifted_hue(torch.from_numpy(images), shifts).numpy()
    for image, picture, shift in zip(found, images, shifts.tolist(), strict=True):
        expected = functional.adjust_hue(tensor(picture), shift).permute(1, 2, 0).numpy()
        assert np.abs(image.astype(int) - expected).max() <= 1


def test_a_blur_is_torchvision_s():
    images, deviations = pictures(), np.linspace(0.1, 2.0, 60)
    images[40:44] = 255  # the largest sums
    found = colours.blurred(torch.from_numpy(images), deviations, 6).numpy()
    for image, picture, deviation in zip(found, images, deviations.tolist(), strict=True):
        expected = functional.gaussian_blur(tensor(picture), 13, deviation).permute(1, 2, 0).numpy()
        assert np.abs(image.astype(int) - expected).max() <= 1
