"""Augmentation of one image, by name."""

from collections.abc import Callable

import torch
from torch import Tensor

from car_ext.errors import InputError
from car_ext.methods.augment.boxes import clipped_box

LARGEST_CROP = 96  # pixels; larger images are augmented by random resized crops

_BASES = ("crop", "crop-flip", "rrc", "autoaugment", "randaugment", "simclr")
AUGMENTATIONS = ("none", *_BASES, *(f"{base}+cutout" for base in _BASES))


def image_augmentation(name: str, image_size: int) -> Callable[[Tensor], Tensor] | None:
    """The augmentation of a uint8 image (C, H, W), which comes out `image_size` square; None for `none`.

    - `crop`: a crop after padding an eighth of the side with black; `crop-flip`: mirrored half the time, too.
    - `rrc`: a resized crop of at least 80 % of the area, mirrored half the time.
    - `autoaugment`: `crop-flip`, then the policy found on CIFAR-10 (Cubuk et al., CVPR 2019).
    - `randaugment`: `crop-flip` up to 96 pixels, else `rrc`, then 2 random operations at magnitude 10 of 10
      (Cubuk et al., NeurIPS 2020). "m10" in long-tailed recipes is timm's scale, which ends at 10; there each
      operation is also left out half the time and its magnitude jittered, here neither.
    - `simclr`: for views to contrast, resized crops of at least 20 % of the area, mirrored half the time; four times
      in five other brightness, contrast, saturation and hue, one in five grey, every other time blurred by a Gaussian
      of 0.1 to 2 pixels (Chen et al., ICML 2020; strengths as in MoCo v2, Chen et al., 2020).
    - `+cutout` behind any of them: then a black square, see `Cutout`.

    What moves into the image at its border is grey (128). Draws come from torch's default generator.

    Raises:
        InputError: an unknown name.
    """
    if name not in AUGMENTATIONS:
        raise InputError(f"augmentation {name!r} is not known; there are {', '.join(AUGMENTATIONS)}.")
    from torchvision.transforms import v2  # takes seconds, and a job without augmentation does without it

    base, _, cutout = name.partition("+")
    crop = v2.RandomCrop(image_size, padding=image_size // 8)
    flip = v2.RandomHorizontalFlip()
    rrc = v2.RandomResizedCrop(image_size, scale=(0.8, 1.0))
    steps = {
        "none": [],
        "crop": [crop],
        "crop-flip": [crop, flip],
        "rrc": [rrc, flip],
        "autoaugment": [crop, flip, v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=128)],
        "randaugment": [
            rrc if image_size > LARGEST_CROP else crop,
            flip,
            v2.RandAugment(num_ops=2, magnitude=10, num_magnitude_bins=11, fill=128),
        ],
        "simclr": [
            v2.RandomResizedCrop(image_size, scale=(0.2, 1.0)),
            flip,
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
            # Three standard deviations to either side of the widest, where the image has as many pixels.
            v2.RandomApply([v2.GaussianBlur(min(13, 2 * image_size - 1), (0.1, 2.0))], p=0.5),
        ],
    }[base]
    steps += [Cutout(image_size // 2)] if cutout else []
    return v2.Compose(steps) if steps else None


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
