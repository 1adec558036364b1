"""Augmentation of a batch of images, by name, on the device that it lies on."""

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from car_ext.errors import InputError, suggest
from car_ext.methods.augment.colours import blurred, greyed
from car_ext.methods.augment.draws import Draws, Keys
from car_ext.methods.augment.geometry import blackened, cropped, mirrored, resized
from car_ext.methods.augment.policies import autoaugmented, for_some, jittered, mstd_augmented, randaugmented, whole

LARGEST_CROP = 96  # pixels; larger images are augmented by random resized crops

BASES = ("crop", "crop-flip", "rrc", "rrc-wide", "autoaugment", "randaugment", "simclr", "simclr-wide")
MODIFIERS = ("jitter", "randaugment-mstd", "cutout")


def check_augmentation(name: str, option: str, *others: str) -> None:
    """Refuse what is neither a word of `Augmentation` nor one of `others`.

    Raises:
        InputError: it is neither; the message begins with `option`.
    """
    base, *modifiers = name.split("+")
    if name in others or (base in BASES and set(modifiers) <= set(MODIFIERS) and len(set(modifiers)) == len(modifiers)):
        return
    known = f"{', '.join((*others, *BASES))}, the latter with any of +{', +'.join(MODIFIERS)} once"
    raise InputError(f"{option} is {name!r}, but must be one of {known}{suggest(base, (*others, *BASES))}")


# A step, and how many numbers it takes for each image.
Step = tuple[Callable[[Tensor, np.ndarray], Tensor], int]


class Augmentation:
    """Augments images; a word each for what is done first, and for what follows.

    - `crop`: a crop after padding an eighth of the side with black; `crop-flip`: mirrored half the time, too.
    - `rrc`: a resized crop of at least 80 % of the area, mirrored half the time; `rrc-wide`: of at least 8 %, as
      ImageNet is usually trained.
    - `autoaugment`: `crop-flip`, then the policy found on CIFAR-10 (Cubuk et al., CVPR 2019).
    - `randaugment`: `crop-flip` up to 96 pixels, else `rrc`, then 2 random operations at magnitude 10 of 10
      (Cubuk et al., NeurIPS 2020), each at full strength.
    - `simclr`: for views to contrast, resized crops of at least 20 % of the area, mirrored half the time; four times
      in five other brightness, contrast, saturation and hue, one in five grey, every other time blurred by a Gaussian
      of 0.1 to 2 pixels (Chen et al., ICML 2020; strengths as in MoCo v2, Chen et al., 2020).
    - `simclr-wide`: the same with crops of at least 8 % and without blur (code of Zhu et al., BCL, CVPR 2022).

    Behind any of them, in the order written:

    - `+jitter`: brightness, contrast and saturation times 0.6 to 1.4.
    - `+randaugment-mstd`: timm's RandAugment `rand-n2-m10-mstd0.5`: 2 operations of its set, each left out half the
      time, their magnitude normal about 10 of 10 with deviation 0.5 and cut off there. Where timm interpolates
      bilinear or bicubic, each half the time, this is bilinear.
    - `+cutout`: a square of half the side about a pixel drawn uniformly from the image, cut off at the border, is
      black (DeVries and Taylor, 2017: 16 pixels on CIFAR-10).

    What moves into the image at its border is grey (128). An image comes out the same in any batch, on any rank and
    worker: its draws depend on the seed, the purpose and its key alone, and the arithmetic is of integers, but for
    the hue.

    Args:
        name: as above, such as `crop-flip+cutout`.
        image_size: side of what comes out, in pixels.
        seed: of the run.
        purpose: augmentations for others draw unrelated numbers.

    Raises:
        InputError: an unknown name.
    """

    def __init__(self, name: str, image_size: int, seed: int, purpose: str = "augmentation") -> None:
        check_augmentation(name, "augmentation")
        self._steps = [step for word in name.split("+") for step in _steps(word, image_size)]
        self._draws = Draws(purpose, seed)

    def __call__(self, images: Tensor, keys: Keys) -> Tensor:
        """The images, augmented; what is given stays as it is.

        Args:
            images: (N, H, W, C) uint8, square, of 3 channels or 1, on any device.
            keys: (N, 3) int64: epoch, how often the epoch has drawn the sample before, index of the sample.

        Returns:
            (N, image_size, image_size, C) uint8, there.
        """
        uniform, used = self._draws(keys, sum(count for _, count in self._steps)), 0
        for step, count in self._steps:
            images = step(images, uniform[:, used : used + count])
            used += count
        return images


def _steps(word: str, side: int) -> list[Step]:
    crop = _crop(side)
    flip: Step = _flip, 1
    colours = _sometimes(0.8, lambda images, uniform: jittered(images, uniform, hue=0.1), 8)
    grey = _sometimes(0.2, greyed, 0)
    reach = min(6, side - 1)  # three standard deviations of the widest, where the image has as many pixels
    blur = _sometimes(0.5, lambda images, uniform: blurred(images, 0.1 + 1.9 * uniform[:, 0], reach), 1)
    wide, narrow, half = (_resized_crop(side, least) for least in (0.08, 0.8, 0.2))
    parts: dict[str, list[Step]] = {
        "crop": [crop],
        "crop-flip": [crop, flip],
        "rrc": [narrow, flip],
        "rrc-wide": [wide, flip],
        "autoaugment": [crop, flip, (autoaugmented, 5)],
        "randaugment": [narrow if side > LARGEST_CROP else crop, flip, (randaugmented, 4)],
        "simclr": [half, flip, colours, grey, blur],
        "simclr-wide": [wide, flip, colours, grey],
        "jitter": [(jittered, 8)],
        "randaugment-mstd": [(mstd_augmented, 10)],
        "cutout": [_cutout(side // 2)],
    }
    return parts[word]


def _crop(side: int) -> Step:
    margin = side // 8

    def crop(images: Tensor, uniform: np.ndarray) -> Tensor:
        places = images.shape[1] + 2 * margin - side + 1
        top, left = whole(uniform, places).T
        return cropped(images, top, left, side, margin)

    return crop, 2


def _flip(images: Tensor, uniform: np.ndarray) -> Tensor:
    return for_some(images, uniform[:, 0] < 0.5, mirrored)


_TRIES = 10


def boxes(uniform: np.ndarray, side: int, least: float) -> np.ndarray:
    """Boxes (N, 4), top, left, height and width, in a square of `side` pixels.

    Their area is uniform from `least` of the square's to all of it, the logarithm of width / height uniform from 3/4 to
    4/3: the first of ten such draws that fits into the square, all of it where none does (Szegedy et al., CVPR 2015, as
    torchvision has it).

    Args:
        uniform: (N, 22).
        side, least: see above.
    """
    area = side**2 * (least + (1 - least) * uniform[:, :_TRIES])
    ratio = np.exp(math.log(4 / 3) * (2 * uniform[:, _TRIES : 2 * _TRIES] - 1))
    # Rounded to single precision first, so that the last bit of a logarithm does not decide.
    width, height = (np.round(np.sqrt(v).astype(np.float32)).astype(np.int64) for v in (area * ratio, area / ratio))
    fits = (width >= 1) & (width <= side) & (height >= 1) & (height <= side)
    first = fits.argmax(axis=1)[:, None]
    found = fits.any(axis=1)
    height, width = (np.where(found, np.take_along_axis(v, first, 1)[:, 0], side) for v in (height, width))
    top, left = ((uniform[:, -2 + k] * (side - v + 1)).astype(np.int64) for k, v in enumerate((height, width)))
    return np.stack([top, left, height, width], axis=1)


def _resized_crop(side: int, least: float) -> Step:
    def crop(images: Tensor, uniform: np.ndarray) -> Tensor:
        return resized(images, boxes(uniform, images.shape[1], least), side)

    return crop, 2 * _TRIES + 2


def _sometimes(chance: float, operation: Callable[[Tensor, np.ndarray], Tensor], count: int) -> Step:
    def step(images: Tensor, uniform: np.ndarray) -> Tensor:
        chosen = uniform[:, 0] < chance
        return for_some(images, chosen, lambda some: operation(some, uniform[chosen, 1:]))

    return step, count + 1


def _cutout(square: int) -> Step:
    def cut(images: Tensor, uniform: np.ndarray) -> Tensor:
        row, column = whole(uniform, images.shape[1]).T
        return blackened(images, row, column, square)

    return cut, 2
