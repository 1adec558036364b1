"""Augmentation of one image, by name."""

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from car_ext.errors import InputError, suggest
from car_ext.methods.augment.boxes import clipped_box

LARGEST_CROP = 96  # pixels; larger images are augmented by random resized crops

BASES = ("crop", "crop-flip", "rrc", "rrc-wide", "autoaugment", "randaugment", "simclr", "simclr-wide")
MODIFIERS = ("jitter", "randaugment-mstd", "cutout")


def check_augmentation(name: str, option: str, *others: str) -> None:
    """Refuse what is neither a word of `image_augmentation` nor one of `others`.

    Raises:
        InputError: it is neither; the message begins with `option`.
    """
    base, *modifiers = name.split("+")
    if name in others or (base in BASES and set(modifiers) <= set(MODIFIERS) and len(set(modifiers)) == len(modifiers)):
        return
    known = f"{', '.join((*others, *BASES))}, the latter with any of +{', +'.join(MODIFIERS)} once"
    raise InputError(f"{option} is {name!r}, but must be one of {known}{suggest(base, (*others, *BASES))}")


def image_augmentation(name: str, image_size: int) -> Callable[[Tensor], Tensor] | None:
    """The augmentation of a uint8 image (C, H, W), which comes out `image_size` square; None for `none`.

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
      time, their magnitude normal about 10 of 10 with deviation 0.5 and cut off there.
    - `+cutout`: a black square, see `Cutout`.

    What moves into the image at its border is grey (128). Draws come from torch's default generator.

    Raises:
        InputError: an unknown name.
    """
    check_augmentation(name, "augmentation", "none")
    if name == "none":
        return None
    from torchvision.transforms import v2  # takes seconds, and a job without augmentation does without it

    crop = v2.RandomCrop(image_size, padding=image_size // 8)
    flip = v2.RandomHorizontalFlip()
    colours = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
    # Three standard deviations to either side of the widest, where the image has as many pixels.
    blur = v2.RandomApply([v2.GaussianBlur(min(13, 2 * image_size - 1), (0.1, 2.0))], p=0.5)
    wide, narrow, half = (v2.RandomResizedCrop(image_size, scale=(least, 1.0)) for least in (0.08, 0.8, 0.2))
    parts: dict[str, list[Callable[[Tensor], Tensor]]] = {
        "crop": [crop],
        "crop-flip": [crop, flip],
        "rrc": [narrow, flip],
        "rrc-wide": [wide, flip],
        "autoaugment": [crop, flip, v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=128)],
        "randaugment": [
            narrow if image_size > LARGEST_CROP else crop,
            flip,
            v2.RandAugment(num_ops=2, magnitude=10, num_magnitude_bins=11, fill=128),
        ],
        "simclr": [half, flip, colours, v2.RandomGrayscale(0.2), blur],
        "simclr-wide": [wide, flip, colours, v2.RandomGrayscale(0.2)],
        "jitter": [v2.ColorJitter(0.4, 0.4, 0.4)],
        "randaugment-mstd": [TimmRandAugment(image_size)],
        "cutout": [Cutout(image_size // 2)],
    }
    return v2.Compose([part for word in name.split("+") for part in parts[word]])


class TimmRandAugment(torch.nn.Module):
    """timm's `rand-n2-m10-mstd0.5`, drawn from torch's default generator; shifts of up to 45 % of the side."""

    def __init__(self, side: int) -> None:
        super().__init__()
        from timm.data.auto_augment import rand_augment_transform  # timm takes a second to import

        hparams = {"translate_const": int(0.45 * side), "img_mean": (128, 128, 128)}
        self.transform = rand_augment_transform("rand-n2-m10-mstd0.5", hparams)

    def forward(self, image: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        seed = int(torch.randint(2**32, ()))
        # timm draws from two generators of the process, which nobody outside shall see moved.
        states = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            seen = self.transform(functional.to_pil_image(image.expand(3, -1, -1)))
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
        return functional.pil_to_tensor(seen)[: len(image)]


class Cutout(torch.nn.Module):
    """Blackens a square about a pixel drawn uniformly from the image (..., H, W), cut off at the border.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017; 16 pixels
    on CIFAR-10. torchvision's RandomErasing differs: its rectangle always lies inside as a whole.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        rows, columns = clipped_box(height, width, self.side, self.side)
        image = image.clone()
        image[..., rows, columns] = 0
        return image
