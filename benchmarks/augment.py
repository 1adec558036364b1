"""What augmenting whole batches is worth: microseconds an image, ours and torchvision's image by image.

python benchmarks/augment.py                        # batches of 128 images of 32 pixels, one thread
python benchmarks/augment.py --size 224 --batch 64
python benchmarks/augment.py --device cuda

Both start from stored images (uint8, N x H x W x C) on the CPU and end with a batch of them on the device, as a
training step takes it: torchvision augments each image in the process and stacks them, ours sends the batch and
augments it there, draws included. They take turns, so that a busy machine slows both; shown are medians with their 20th
and 80th percentile, and the ratio of the medians.
"""

import argparse
import random
from collections.abc import Callable

import numpy as np
import torch
from clock import Call, Work, in_turns
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from car_ext.machine.device import find_device
from car_ext.machine.memory import keep_freed_memory
from car_ext.methods.augment.images import BASES, LARGEST_CROP, MODIFIERS, Augmentation


def timm_s(side: int) -> Callable:
    """timm's RandAugment, which takes Pillow's images."""
    from timm.data.auto_augment import rand_augment_transform

    options = {"translate_const": int(0.45 * side), "img_mean": (128, 128, 128)}
    transform = rand_augment_transform("rand-n2-m10-mstd0.5", options)
    return lambda image: functional.pil_to_tensor(transform(functional.to_pil_image(image)))


class Cutout:
    """A black square about a pixel, cut off at the border."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        image, reach = image.clone(), self.side // 2
        y, x = (random.randrange(side) for side in image.shape[-2:])
        image[:, max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach] = 0
        return image


def one_by_one(name: str, side: int) -> Callable:
    """The same augmentation of an image (C, H, W), by torchvision."""
    crop, flip = v2.RandomCrop(side, padding=side // 8), v2.RandomHorizontalFlip()
    wide, narrow, half = (v2.RandomResizedCrop(side, scale=(least, 1.0)) for least in (0.08, 0.8, 0.2))
    colours = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
    blur = v2.RandomApply([v2.GaussianBlur(min(13, 2 * side - 1), (0.1, 2.0))], p=0.5)
    parts = {
        "crop": [crop],
        "crop-flip": [crop, flip],
        "rrc": [narrow, flip],
        "rrc-wide": [wide, flip],
        "autoaugment": [crop, flip, v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=128)],
        "randaugment": [
            narrow if side > LARGEST_CROP else crop,
            flip,
            v2.RandAugment(num_ops=2, magnitude=10, num_magnitude_bins=11, fill=128),
        ],
        "simclr": [half, flip, colours, v2.RandomGrayscale(0.2), blur],
        "simclr-wide": [wide, flip, colours, v2.RandomGrayscale(0.2)],
        "jitter": [v2.ColorJitter(0.4, 0.4, 0.4)],
        "randaugment-mstd": [timm_s(side)],
        "cutout": [Cutout(side // 2)],
    }
    return v2.Compose([part for word in name.split("+") for part in parts[word]])


def ways(name: str, images: torch.Tensor, device: torch.device) -> dict[str, Work]:
    number, side = images.shape[:2]
    theirs, ours = one_by_one(name, side), Augmentation(name, side, 0)
    keys = np.stack([np.ones(number), np.zeros(number), np.arange(number)], axis=1).astype(np.int64)

    def image_by_image() -> torch.Tensor:
        augmented = [theirs(image).permute(1, 2, 0) for image in images.permute(0, 3, 1, 2)]
        return torch.stack(augmented).to(device, non_blocking=True)

    def batch() -> torch.Tensor:
        keys[:, 0] += 1  # other draws each time, as from epoch to epoch
        return ours(images.to(device, non_blocking=True), keys)

    calls: dict[str, Call] = {"torchvision": image_by_image, "batch": batch}
    for call in calls.values():
        call()
    return {way: Work(call) for way, call in calls.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each augmentation")
    parser.add_argument("--only", nargs="*", default=[*BASES, *(f"crop+{word}" for word in MODIFIERS)])
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = find_device(options.device)
    shape = options.batch, options.size, options.size, 3
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    print(f"{options.batch} images of {options.size} pixels, {device}, torch {torch.__version__}; us an image")
    print(f"{'augmentation':<22} {'torchvision':>24} {'batch':>24} {'times':>7}")
    for name in options.only:
        with keep_freed_memory():  # as in training
            found = in_turns(ways(name, images, device), device.type, options.seconds)
        per_image = 1e6 / options.batch
        shown = [
            f"{per_image * s.median:8.2f} ({per_image * s.low:.2f}-{per_image * s.high:.2f})" for s in found.values()
        ]
        print(f"{name:<22} {shown[0]:>24} {shown[1]:>24} {found['torchvision'].median / found['batch'].median:7.1f}")


if __name__ == "__main__":
    main()
